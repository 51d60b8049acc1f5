"""What ranks exchange, on a real gloo group."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model.distributed.ranks import ALONE, Ranks, join_ranks
from model.errors import ModelError
from tests.ranks import on_ranks

COUNTS = pytest.mark.parametrize("count", [1, 2, 3])
ROWS, DIM = 8, 3
TABLE = torch.arange(ROWS * DIM, dtype=torch.float64).view(ROWS, DIM)
ASKED = [[0, 3, 4], [], [1, 3, 7]]  # by rank


def own(ranks: Ranks) -> Tensor:
    return TABLE[ranks.rank :: ranks.count]


@COUNTS
def test_every_row_lies_on_one_rank(count: int) -> None:
    """Row r lies on rank r mod N; `own` counts the same rows."""

    def rows(ranks: Ranks) -> tuple[list[int], list[int]]:
        return ranks.mine(np.arange(ROWS)).tolist(), [ranks.own(rows) for rows in range(ROWS + 1)]

    for rank, (mine, counts) in enumerate(on_ranks(count, rows)):
        assert mine == list(range(rank, ROWS, count))
        assert counts == [len(range(rank, rows, count)) for rows in range(ROWS + 1)]


@COUNTS
def test_rows_are_fetched_from_where_they_lie(count: int) -> None:
    """In the order asked for, also where a rank asks for none."""
    for rank, found in enumerate(on_ranks(count, lambda r: r.fetch(torch.tensor(ASKED[r.rank]).long(), own(r)))):
        assert torch.equal(found, TABLE[ASKED[rank]])


@COUNTS
def test_gradients_of_rows_are_added_up(count: int) -> None:
    """At their owners, each row at its own alone; or on every rank."""

    def summed(ranks: Ranks) -> list[dict[int, list[float]]]:
        rows = torch.tensor(ASKED[ranks.rank]).long()
        gradient = torch.full((len(rows), DIM), 10.0**ranks.rank)
        pairs = ranks.sum_at_owners(rows, gradient), ranks.sum_rows(rows, gradient)
        return [dict(zip(rows.tolist(), sums.tolist(), strict=True)) for rows, sums in pairs]

    expected = {r: [sum(10.0**k for k in range(count) if r in ASKED[k])] * DIM for rows in ASKED[:count] for r in rows}
    for rank, (at_owners, everywhere) in enumerate(on_ranks(count, summed)):
        assert everywhere == expected
        assert at_owners == {row: sums for row, sums in expected.items() if row % count == rank}


@COUNTS
@pytest.mark.parametrize("rows", [0, 1, 2, ROWS])
def test_a_table_is_shared_out_and_put_together(count: int, rows: int) -> None:
    """Rank 0 alone has the whole table, before and after."""

    def there_and_back(ranks: Ranks) -> tuple[Tensor, Tensor]:
        mine = ranks.from_first(TABLE[:rows] if ranks.rank == 0 else TABLE[:0], rows)
        return mine, ranks.to_first(mine, rows)

    for rank, (mine, whole) in enumerate(on_ranks(count, there_and_back)):
        assert torch.equal(mine, TABLE[:rows][rank::count])
        assert torch.equal(whole, TABLE[: 0 if rank else rows])


@COUNTS
@pytest.mark.parametrize(("queries", "rows"), [(2, ROWS), (0, ROWS), (2, 0), (2, 1)])
def test_columns_stand_in_the_order_of_the_rows(count: int, queries: int, rows: int) -> None:
    """Each rank has the columns of its rows; all get all."""
    scores = torch.arange(queries * rows).view(queries, rows)
    for found in on_ranks(count, lambda ranks: ranks.columns(scores[:, ranks.rank :: ranks.count], rows)):
        assert torch.equal(found, scores)
        assert found.is_contiguous()


@COUNTS
def test_parts_are_joined_in_the_order_of_the_ranks(count: int) -> None:
    """Whatever their lengths, none included."""
    for found in on_ranks(count, lambda ranks: ranks.join(TABLE[: 2 * ranks.rank])):
        assert torch.equal(found, torch.cat([TABLE[: 2 * rank] for rank in range(count)]))


def test_messages_reach_all_and_a_sign_of_life_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rank 0 sends is received in its order; what only keeps the others waiting is passed over."""
    monkeypatch.setattr("model.distributed.ranks._BEAT_S", 0.0)

    def talk(ranks: Ranks) -> list[object]:
        if ranks.rank:
            return [ranks.receive(), ranks.receive()]
        ranks.beat()
        ranks.send({"step": 1})
        ranks.beat()
        ranks.send(None)
        return []

    assert on_ranks(3, talk)[1:] == [[{"step": 1}, None]] * 2


def test_a_rank_that_is_gone_is_told_in_a_sentence() -> None:
    """The others stop, and the sentence says how to go on."""

    def leave(ranks: Ranks) -> None:
        if ranks.rank:
            ranks.receive()
        else:
            ranks._group = None

    with pytest.raises(ModelError, match=r"Rank 1 of 2 has lost another one .* go on from the newest checkpoint"):
        on_ranks(2, leave)


def test_one_rank_exchanges_nothing() -> None:
    """What it gives is what it gets, not a copy."""
    assert ALONE.sum(TABLE) is ALONE.join(TABLE) is ALONE.columns(TABLE, ROWS) is ALONE.to_first(TABLE, ROWS) is TABLE
    ALONE.send("nobody hears it")


def test_a_process_that_was_started_alone_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher, no group."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_ranks("cpu") as ranks:
        assert ranks is ALONE


def test_a_launcher_that_names_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the rank and the page."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        pytest.raises(ModelError, match=r"Rank 1 cannot join the others: .*MASTER_ADDR.*docs/ranks.md"),
        join_ranks("cpu"),
    ):
        pass
