import numpy as np
import pytest
from hypothesis import given, strategies as st

from model.arrays.splice import BLOCK, Splice, splice, spliced

# Runs of an alphabet of two make blocks that occur often; ranges make blocks that occur once.
parts = st.lists(st.tuples(st.sampled_from(["run", "range"]), st.integers(0, 3), st.integers(0, 3 * BLOCK)), max_size=6)


def made(recipe: list[tuple[str, int, int]]) -> np.ndarray:
    pieces = [np.full(n, v) if kind == "run" else np.arange(n) + 1000 * v for kind, v, n in recipe]
    return np.concatenate([np.empty(0, np.int64), *pieces])


@given(parts, parts, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 40), parts), max_size=3))
def test_a_splice_leads_from_the_old_array_to_the_new_one(old: list, fresh: list, edits: list) -> None:
    """Whatever is inserted, removed or changed, and for an array that has nothing in common with it."""
    before = made(old)
    after = before
    for at, removed, put in edits:
        after = np.concatenate((after[:at], made(put), after[at + removed :]))
    for new in (after, made(fresh)):
        assert np.array_equal(spliced(before, splice(before, new), len(new)), new)


def test_a_splice_is_as_large_as_what_changed() -> None:
    """A hundred insertions and changes among 50,000 elements leave a few elements each."""
    rng = np.random.default_rng(0)
    old = rng.random(50_000).astype(np.float32)
    new = np.insert(old, rng.integers(0, len(old), 100), 2.0)
    new[rng.integers(0, len(new), 100)] = np.nan
    found = splice(old, new)
    assert spliced(old, found, len(new)).tobytes() == new.tobytes()
    assert len(found.rest) < 2000
    assert len(found.stretches) <= 201


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8", "?"])
def test_every_dtype_keeps_its_bits(dtype: str) -> None:
    """Minus zero is not zero, and a NaN is itself."""
    rng = np.random.default_rng(1)
    old = rng.integers(0, 2, 300).astype(dtype)
    new = np.concatenate((old[7:], -old[:9] if dtype.startswith("f") else old[:9]))
    again = spliced(old, splice(old, new), len(new))
    assert (again.dtype, again.tobytes()) == (new.dtype, new.tobytes())


@pytest.mark.parametrize(
    "stretch", [[0, 50, 60], [0, -1, 10], [60, 0, 50], [0, 0, -3], [0, 2**62, 2**62], [-5, 0, 5]], ids=str
)
def test_stretches_outside_the_arrays_are_refused(stretch: list[int]) -> None:
    """A damaged difference reads and writes nothing beyond its arrays."""
    old = np.arange(100)
    with pytest.raises(ValueError, match="outside"):
        spliced(old, Splice(np.array([stretch]), np.arange(100 - stretch[2] if stretch[2] < 100 else 0)), 100)
