"""Student's t against tables, and the interval made of it."""

import math

import pytest

from sim.report.analysis.student import critical, half_width


@pytest.mark.parametrize(
    ("df", "t"),
    [(1, 12.7062047364), (2, 4.30265272975), (4, 2.77644510520), (29, 2.04522964213), (100, 1.98397151845)],
)
def test_critical_values_are_those_of_the_tables(df: int, t: float) -> None:
    """Ten digits agree with published tables."""
    assert critical(df) == pytest.approx(t, rel=1e-10)


def test_half_width_needs_two_values() -> None:
    """Of 1, 2, 3 it is t(2) / sqrt(3); one value has none; equal ones have 0."""
    assert half_width([1, 2, 3]) == pytest.approx(critical(2) / math.sqrt(3))
    assert half_width([1]) is None
    assert half_width([]) is None
    assert half_width([0.5, 0.5]) == 0
