import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from xxhash import xxh3_128

from model.errors import ModelError
from model.optim.embedding_table import BLOCK, EmbeddingTable

DIM, LR = 4, 0.1
rows_of_a_step = st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True)
steps = st.lists(st.tuples(rows_of_a_step, st.integers(0, 2**32 - 1)), max_size=6)
Steps = list[tuple[list[int], int]]


def make(rows: int = 0, dim: int = DIM, **settings: object) -> EmbeddingTable:
    table = EmbeddingTable(dim, **{"seed": 3, "std": 0.02, **settings})
    table.grow(rows)
    return table


def gradient(rows: list[int], seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((len(rows), DIM)))


def train(table: EmbeddingTable, every: Steps) -> None:
    for rows, seed in every:
        table.step(torch.tensor(rows), gradient(rows, seed).to(table.weight.dtype), LR)


def digest(table: EmbeddingTable) -> str:
    hasher = xxh3_128()
    table.digest_update(hasher)
    return hasher.hexdigest()


@given(steps)
@settings(deadline=None)
def test_every_row_moves_as_if_adamw_trained_it_alone(every: Steps) -> None:
    """A row is what torch's AdamW makes of it from the gradients of the steps that touch it, and of no others."""
    table = make(6, dtype=torch.float64)
    expected = table.rows.clone()
    for row in range(6):
        weight = expected[row].clone().requires_grad_()
        adamw = torch.optim.AdamW([weight], lr=LR, betas=(0.9, 0.98), weight_decay=0.0)
        for rows, seed in every:
            if row in rows:
                weight.grad = gradient(rows, seed)[rows.index(row)]
                adamw.step()
        expected[row] = weight.detach()
    train(table, every)
    torch.testing.assert_close(table.rows, expected, rtol=1e-12, atol=1e-12)


@given(st.lists(st.integers(0, 5 * BLOCK), max_size=4), st.integers(0, 5 * BLOCK))
@settings(deadline=None, max_examples=25)
def test_first_values_depend_on_the_row_alone(growth: list[int], rows: int) -> None:
    """However a table grew, it has the bits of one that was made in full size at once."""
    table = make(max([rows, *growth]))
    grown = make()
    for each in [*growth, rows]:
        grown.grow(each)
    assert len(grown) == len(table)
    assert torch.equal(grown.rows, table.rows)
    assert digest(grown) == digest(table)


def test_first_values_are_normal_and_of_their_seed() -> None:
    """Mean 0 and deviation std, no row twice; another seed draws other values, and a negative one is a seed as well."""
    rows = make(4 * BLOCK, dim=16, std=0.5).rows
    assert abs(rows.mean().item()) < 0.01
    assert abs(rows.std().item() - 0.5) < 0.01
    assert rows.unique(dim=0).shape == rows.shape
    seeds = [make(2, seed=seed).rows for seed in (3, 4, -1)]
    assert len({tuple(each.flatten().tolist()) for each in seeds}) == 3


@given(steps, steps)
@settings(deadline=None)
def test_training_and_growth_do_not_disturb_one_another(before: Steps, then: Steps) -> None:
    """A table that grows past its capacity between steps ends with the bits of one that was large at the start."""
    large, grown = make(3 * BLOCK), make(6)
    train(large, before + then)
    train(grown, before)
    grown.grow(3 * BLOCK)
    train(grown, then)
    assert digest(grown) == digest(large)


@given(steps, steps, st.sets(st.integers(0, 5), min_size=1))
@settings(deadline=None)
def test_a_renewed_row_is_a_fresh_one(before: Steps, then: Steps, renewed: set[int]) -> None:
    """It goes on as if no step had touched it, and the others as if nothing had happened."""
    table, untouched = make(BLOCK + 6), make(BLOCK + 6)
    train(table, before)
    table.renew(np.array(sorted(renewed)))
    for rows, seed in before:
        kept = [n for n, row in enumerate(rows) if row not in renewed]
        if kept:
            grads = gradient(rows, seed)[kept].to(untouched.weight.dtype)
            untouched.step(torch.tensor([rows[n] for n in kept]), grads, LR)
    for each in (table, untouched):
        train(each, then)
    assert digest(table) == digest(untouched)


def test_room_for_later_rows_changes_none() -> None:
    """A table with memory for more grows without moving, and to the same bits."""
    roomy, tight = make(), make()
    roomy.reserve(5 * BLOCK)
    before = roomy.weight.data_ptr()
    for rows in (1, BLOCK, 3 * BLOCK + 1, 5 * BLOCK):
        roomy.grow(rows)
        tight.grow(rows)
        assert digest(roomy) == digest(tight)
    assert roomy.weight.data_ptr() == before


def test_room_that_does_not_exist_changes_nothing() -> None:
    """The table goes on as before."""
    table, untouched = make(6), make(6)
    with pytest.raises(MemoryError):
        table.reserve(2**50)
    for each in (table, untouched):
        each.grow(2 * BLOCK)
    assert digest(table) == digest(untouched)


@given(steps, steps)
@settings(deadline=None)
def test_a_restored_state_goes_on_to_the_same_bits(before: Steps, then: Steps) -> None:
    """The table that takes a state may have held anything before; later rows are those of the original."""
    original, restored = make(6), make(2 * BLOCK)
    train(restored, [*then, ([BLOCK], 1)])
    train(original, before)
    restored.load_state({name: part.clone() for name, part in original.state().items()})
    assert digest(restored) == digest(original)
    for table in (original, restored):
        train(table, then)
        table.grow(BLOCK + 1)
    assert digest(restored) == digest(original)


@given(steps, steps)
@settings(deadline=None)
def test_digests_differ_when_a_step_differs(one: Steps, other: Steps) -> None:
    """Weights, moments and counts of steps all count: a digest is equal if and only if they are."""
    left, right = make(6), make(6)
    train(left, one)
    train(right, other)
    same = all(torch.equal(a, b) for a, b in zip(left.state().values(), right.state().values(), strict=True))
    assert (digest(left) == digest(right)) == same


def test_gathered_rows_take_a_gradient_and_leave_the_table_alone() -> None:
    """The leaf has each row once, ascending; the table does not see what happens to it. Row -1 has no place."""
    table = make(6)
    before = table.rows.clone()
    found = table.gather(np.array([4, -1, 1, 4]))
    leaf = found.leaf
    assert found.rows.tolist() == [1, 4]
    assert found.at.tolist() == [1, -1, 0, 1]
    assert torch.equal(leaf, before[[1, 4]])
    leaf.sum().backward()
    assert leaf.is_leaf
    assert torch.equal(leaf.grad, torch.ones(2, DIM))
    with torch.no_grad():
        leaf.zero_()
    assert torch.equal(table.rows, before)
    for rows in ([5, 0], [-1], [0, 3, 5]):  # nothing of a call is left for the next one
        again = table.gather(np.array(rows))
        assert again.rows.tolist() == sorted({*rows} - {-1})
        assert [again.rows.tolist()[at] if at >= 0 else -1 for at in again.at.tolist()] == rows
    table.grow(3000)
    assert table.gather(np.array([2999, -1, 5])).at.tolist() == [1, -1, 0]


def test_a_state_of_another_width_is_refused() -> None:
    """The sentence names both widths and what to do."""
    with pytest.raises(ModelError, match=r"width 4 cannot take a state of width 5; set model.dim to 5"):
        (table := make(3)).load_state(make(1, dim=5).state())
    assert digest(table) == digest(make(3))


def test_reserved_memory_stays_when_a_state_is_read() -> None:
    """A table that goes on from a checkpoint grows up to its cap without a copy, with rows as if it had never begun."""
    table, fresh = make(), make(BLOCK + 5)
    table.reserve(3 * BLOCK)
    parts = [table.weight, table._mean, table._square, table._steps]
    table.grow(2 * BLOCK)
    for part in parts:
        part.fill_(7)
    table.load_state(make(5).state())
    table.grow(BLOCK + 5)
    assert digest(table) == digest(fresh)
    table.grow(3 * BLOCK)
    there = (table.weight, table._mean, table._square, table._steps)
    assert [part.data_ptr() for part in there] == [part.data_ptr() for part in parts]


@pytest.mark.gpu
def test_first_values_are_the_same_on_a_gpu() -> None:
    """They are drawn on the CPU and sent."""
    assert torch.equal(make(BLOCK + 1, device="cuda").rows.cpu(), make(BLOCK + 1).rows)
