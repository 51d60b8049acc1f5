"""Student's t against tables, closed forms and itself."""

import math

import pytest
from hypothesis import given, strategies as st

from sim.compare.report_student import critical, distribution, half_width, quantile


@pytest.mark.parametrize(
    ("p", "df", "t"),
    [
        (0.975, 1, 12.7062047364),
        (0.975, 2, 4.30265272975),
        (0.975, 4, 2.77644510520),
        (0.975, 9, 2.26215716280),
        (0.975, 29, 2.04522964213),
        (0.975, 100, 1.98397151845),
        (0.995, 5, 4.03214298356),
        (0.95, 10, 1.81246112281),
    ],
)
def test_quantiles_are_those_of_the_tables(p: float, df: int, t: float) -> None:
    """Ten digits agree with published tables."""
    assert quantile(p, df) == pytest.approx(t, rel=1e-10)
    assert quantile(1 - p, df) == pytest.approx(-t, rel=1e-10)


@given(st.floats(0.001, 0.999))
def test_one_and_two_degrees_have_closed_forms(p: float) -> None:
    """df 1 is Cauchy's distribution; for df 2 the quantile is (2p - 1) / sqrt(2p(1 - p))."""
    assert quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9, abs=1e-12)
    assert quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-9, abs=1e-12)


@given(st.floats(0.0001, 0.9999), st.integers(1, 2000))
def test_the_quantile_inverts_the_distribution(p: float, df: int) -> None:
    """F(t) of the quantile of p is p."""
    assert distribution(quantile(p, df), df) == pytest.approx(p, rel=1e-9)


def test_what_has_no_quantile_is_refused() -> None:
    """p outside (0, 1) and no degrees of freedom are refused in a sentence."""
    with pytest.raises(ValueError, match=r"no quantile 1 for 3 degrees"):
        quantile(1, 3)
    with pytest.raises(ValueError, match=r"for 0 degrees of freedom; 0 < p < 1 and df >= 1"):
        quantile(0.5, 0)


def test_half_width_needs_two_values() -> None:
    """Of 1, 2, 3 it is t(2) / sqrt(3); one value has none; equal ones have 0."""
    assert half_width([1, 2, 3]) == pytest.approx(critical(2) / math.sqrt(3))
    assert half_width([1]) is None
    assert half_width([]) is None
    assert half_width([0.5, 0.5]) == 0
