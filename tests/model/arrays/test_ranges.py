import doctest

import numpy as np
from hypothesis import given, strategies as st

import model.arrays.ranges
from model.arrays.ranges import ranges


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6))
def test_every_place_of_every_range_comes_once_in_order(parts: list[tuple[int, int]]) -> None:
    """Also where ranges overlap or have no place."""
    starts, lengths = (np.array([part[i] for part in parts], np.int64) for i in (0, 1))
    owners, places = ranges(starts, lengths)
    by_hand = [(t, start + i) for t, (start, length) in enumerate(parts) for i in range(length)]
    assert list(zip(owners.tolist(), places.tolist(), strict=True)) == by_hand


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.arrays.ranges).failed == 0
