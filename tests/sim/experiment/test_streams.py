"""Streams of a comparison: which are closed, what identifies them, and that contestants share a feed."""

from pathlib import Path

import pytest

from sim.errors import SimError
from sim.experiment.run import RunSpec
from sim.experiment.streams import feed_of, open_stream

SMALL = {"events": 200, "users": 10, "items": 20, "categories": 3, "days": 1}


def test_contestants_of_one_stream_share_its_feed() -> None:
    """Settings and source of a contestant do not matter; another seed is another feed."""

    def spec(contestant: str, seed: int = 0, **own: str) -> RunSpec:
        return RunSpec(scenario="growth", overrides=SMALL, seed=seed, contestant=contestant, **own)  # type: ignore[arg-type]

    feed = feed_of(spec("silu", source="a", variant="dim=8"))
    assert feed_of(spec("popularity", source="b", score_at="request")) is feed
    assert feed_of(spec("silu", seed=1)) is not feed


def test_overrides_name_and_identify_a_stream() -> None:
    """They are in its key and title and change the digest of its world; the seed is in neither."""
    plain, changed = open_stream("growth", {}, 0, {}), open_stream("growth", SMALL, 0, {})
    assert changed.key == "growth events=200 users=10 items=20 categories=3 days=1"
    assert "events 200" in changed.title
    assert plain.world != changed.world
    assert open_stream("growth", SMALL, 1, {}).key == changed.key


def test_a_closed_loop_is_closed() -> None:
    """Scenarios and data sets are open, closed-loop is not."""
    assert [open_stream(name, {}, 0, {}).closed for name in ("growth", "movielens", "closed-loop")] == [
        *(False, False, True),
    ]


def test_a_data_set_knows_only_its_limit() -> None:
    """Another key is refused by name."""
    assert open_stream("movielens", {"limit": 5}, 0, {}).key == "movielens limit=5"
    with pytest.raises(SimError, match="The data set movielens has no events; it knows limit"):
        open_stream("movielens", {"events": 5}, 0, {})


def test_a_log_is_a_stream_whose_seed_orders_its_ties(tmp_path: Path) -> None:
    """Rows of one instant have another order for each seed, unless a flag says which."""
    path = tmp_path / "own.csv"
    path.write_text("user_id,item_id,ts\n" + "".join(f"1,{item},1700000000\n" for item in range(20)))
    log = {"log": [str(path)]}
    first, second = (open_stream("own", {}, seed, {}, log) for seed in (0, 1))
    assert (first.key, first.closed, first.moments) == ("own", False, [])
    assert first.world != second.world
    fixed = [open_stream("own", {}, seed, {}, {**log, "shuffle_ties": 3}).world for seed in (0, 1)]
    assert fixed[0] == fixed[1]
    assert first.feed().examples > 0
