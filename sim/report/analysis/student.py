"""Student's t, by which every interval of the report is made."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from scipy.special import stdtrit

CONFIDENCE: Final = 0.95


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
    """Give the t beyond which 5 % lie on both sides together, for `df` degrees of freedom, 1 or more."""
    return float(stdtrit(df, (1 + CONFIDENCE) / 2))
