import doctest
from collections import Counter

import numpy as np
from hypothesis import given, strategies as st

import model.keys.admission
from model.keys.admission import AGING, Admission

calls = st.lists(st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 9), max_size=8), max_size=12)


def array(keys: list[int]) -> np.ndarray:
    return np.array(keys, np.uint64)


@given(calls, st.integers(1, 4), st.integers(0, 100))
def test_an_id_is_admitted_at_its_occurrence(every: list[list[int]], after: int, exact: int) -> None:
    """Counted exactly up to the bound; beyond it never too late, whatever else is counted."""
    doorkeeper, counts = Admission(after, exact), Counter[int]()
    for keys in every:
        admitted = doorkeeper.count(array(keys))
        counts.update(keys)
        enough = {key for key in keys if counts[key] >= after}
        found = {key for key, enters in zip(keys, admitted.tolist(), strict=True) if enters}
        assert enough <= found
        if len(counts) <= exact:
            assert found == enough


def test_the_sketch_is_seldom_wrong() -> None:
    """Of ids that occur once, fewer than the stated share are taken for ids that occur twice."""
    doorkeeper, rng = Admission(2, exact=0, width=1 << 16), np.random.default_rng(0)
    keys = rng.integers(1, 2**64, size=200_000, dtype=np.uint64)
    wrong = sum(int(doorkeeper.count(part).sum()) for part in np.split(keys, 200))
    assert wrong / len(keys) < 1 / 8**4


def test_old_counts_fade() -> None:
    """After as many occurrences as a sketch may hold, an id that was seen once counts as new."""
    width = 1 << 12
    doorkeeper = Admission(2, exact=0, width=width)
    doorkeeper.count(array([7]))
    doorkeeper.count(np.full(width // AGING, 9, np.uint64))
    assert not doorkeeper.count(array([7])).any()


@given(calls, st.integers(0, 12))
def test_a_restored_state_goes_on_the_same(every: list[list[int]], exact: int) -> None:
    """Before and after the sketch has begun."""
    one, other = Admission(2, exact, 1 << 12), Admission(2, exact, 1 << 12)
    for keys in every:
        other.load_state({name: array.copy() for name, array in one.state().items()})
        assert one.count(array(keys)).tolist() == other.count(array(keys)).tolist()


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.keys.admission).failed == 0
