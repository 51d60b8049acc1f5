"""Quantiles of Student's t, from which every interval of the report is made.

F(t) = 1 - I(x; df/2, 1/2) / 2 with x = df / (df + t²) for t >= 0, where I is the regularised incomplete beta
function. I is summed by its continued fraction (Abramowitz and Stegun 26.5.8); the quantile is found by halving.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

CONFIDENCE: Final = 0.95
_TINY: Final = 1e-300
_TERMS: Final = 500  # of the continued fraction; it ends long before


def half_width(values: Sequence[float]) -> float | None:
    """Give half the width of the 95 % interval of the mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return critical(n - 1) * math.sqrt(variance / n)


@lru_cache
def critical(df: int) -> float:
    """Give the t beyond which 5 % lie on both sides together."""
    return quantile((1 + CONFIDENCE) / 2, df)


def quantile(p: float, df: int) -> float:
    """Give t with F(t) = p for `df` degrees of freedom."""
    if not 0 < p < 1 or df < 1:
        raise ValueError(
            f"Student's t has no quantile {p} for {df} degrees of freedom; 0 < p < 1 and df >= 1 are needed."
        )
    if p < 0.5:
        return -quantile(1 - p, df)
    low, high = 0.0, 1.0
    while distribution(high, df) < p:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if distribution(middle, df) < p else (low, middle)
    return high


def distribution(t: float, df: int) -> float:
    """Give F(t), the chance of a value up to t."""
    if t < 0:
        return 1 - distribution(-t, df)
    return 1 - _incomplete_beta(df / (df + t * t), t * t / (df + t * t), df / 2, 0.5) / 2


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """I(x; a, b) with rest = 1 - x, given so that no digits are lost where x is next to 1."""
    if x == 0 or rest == 0:
        return 1.0 if rest == 0 else 0.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(rest, x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(log_front) / (a * _fraction(x, a, b))


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)) by Lentz's method."""
    value, c, d = 1.0, 1.0, 0.0
    for term in range(1, _TERMS):
        m = term // 2
        if term % 2:
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (_nonzero(1 + numerator * d))
        c = _nonzero(1 + numerator / c)
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
