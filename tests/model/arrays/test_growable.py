import numpy as np
from hypothesis import given, strategies as st

from model.arrays.growable import with_room


@given(st.integers(0, 9), st.integers(0, 30))
def test_rows_stay_and_room_at_least_doubles(has: int, wants: int) -> None:
    """The rows are kept, new rows are zeros, and an array that is long enough is not copied."""
    array = np.arange(2 * has).reshape(has, 2)
    grown = with_room(array, wants)
    assert np.array_equal(grown[:has], array)
    assert not grown[has:].any()
    assert grown is array if wants <= has else len(grown) >= max(wants, 2 * has)
