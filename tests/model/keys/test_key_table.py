import doctest

import numpy as np
import pytest
from hypothesis import given, strategies as st

import model.keys.key_table
from model.keys.key_table import KeyTable

keys = st.integers(1, 40) | st.integers(2**64 - 3, 2**64 - 1)
calls = st.lists(
    st.tuples(st.sampled_from(["add", "remove"]), st.lists(keys, max_size=12), st.integers(0, 12)), max_size=30
)


def array(found: list[int]) -> np.ndarray:
    return np.array(found, np.uint64)


@given(calls, st.sampled_from([4, 8, 32]))
def test_it_does_what_a_dictionary_does(every: list[tuple[str, list[int], int]], slots: int) -> None:
    """Any schedule of additions, some without room, and of removals, through several doublings."""
    table, oracle, fresh = KeyTable(slots), dict[int, int](), 0
    for verb, wanted, room in every:
        if verb == "remove":
            table.remove(array(wanted))
            for key in wanted:
                oracle.pop(key, None)
            continue
        rows, used = table.add(array(wanted), np.arange(fresh, fresh + room))
        for key in wanted:
            if key not in oracle and room:
                oracle[key], fresh, room = fresh, fresh + 1, room - 1
        assert rows.tolist() == [oracle.get(key, -1) for key in wanted]
        assert used == len({row for row in rows.tolist() if row >= fresh - used}) if used else True
        assert len(table) == len(oracle)
    every_key = [*range(60), *range(2**64 - 5, 2**64)]
    assert table.rows(array(every_key)).tolist() == [oracle.get(key, -1) for key in every_key]


def test_no_call_waits_for_growth() -> None:
    """After each call at most a share of the slots is left to be cleared or moved: never all at once."""
    table, rng = KeyTable(64), np.random.default_rng(0)
    for start in range(0, 200_000, 100):
        before = len(table._slots)
        table.add(rng.integers(1, 2**64, size=100, dtype=np.uint64), np.arange(start, start + 100))
        if len(table._slots) > before > 10_000:
            assert not table._cleared
            assert len(table._old) == before, "the old slots were moved before they had to"
    assert table._drained or not len(table._old)


def test_keys_of_one_run_are_found_after_a_removal_around_the_end() -> None:
    """Keys that probe past the last slot to the first are moved back over it."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        table, kept = KeyTable(8), rng.permutation(np.arange(1, 200, dtype=np.uint64))[:4]
        table.add(kept, np.arange(4))
        table.remove(kept[:1])
        assert table.rows(kept).tolist() == [-1, 1, 2, 3]


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.keys.key_table).failed == 0


def test_signed_keys_are_refused() -> None:
    """Half of all keys are beyond the largest signed number, and would not be found."""
    table, signed = KeyTable(), np.array([7])
    for call in (table.rows, table.remove, lambda keys: table.add(keys, np.array([0]))):
        with pytest.raises(TypeError, match="int64; give them as uint64"):
            call(signed)
