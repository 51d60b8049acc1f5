"""Names at the ends of lines."""

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from sim.report.plots.lines import spaced


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.3))
def test_names_beside_lines_never_overlap_and_stay_put_where_they_can(values: list[float], gap: float) -> None:
    """Neighbours are `gap` apart, none is below the least, the order stays; what is apart already does not move."""
    values = sorted(values)
    places = spaced(values, gap, 0.0)
    assert len(places) == len(values)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(places))
    assert all(place >= -1e-9 for place in places)
    if all(b - a >= gap for a, b in pairwise(values)):
        assert places == pytest.approx(values)
