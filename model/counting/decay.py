"""Exponential decay of counts: they halve in each half-life of event time, without any work as time goes on.

n occurrences at their times. An occurrence at time t weighs 2^(t / half-life - origin), for good: a caller who compares
counts with one another never needs their common decay, and one who needs counts as of a time asks for it (`decayed`,
`factors`). When the newest time is 512 half-lives past the origin, the origin moves up and all sums are scaled by a
power of two, which loses no bit (only sums below 2^-1022 are rounded, in the end to 0). So sums depend on the
occurrences in their order, not on how they were split into calls.

Event time may go back, by as much as it likes. As of a time before them occurrences weigh more than 1; the largest
count, or the factor, is then at most 2^256, so that proportions stay, and sums, squares and products are finite.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_FAR: Final = 512  # half-lives; float64 reaches 1023
_MOST: Final = 256  # exponent of the largest count: its square, and a product with 2^_FAR, are float64 with room left
_GONE: Final = 2048  # halvings that leave nothing of any sum; more could not be given to ldexp as 32 bits
_EXACT: Final = 1000  # up to here a power of two is a float64, and multiplying by it is ldexp, several times as fast


class DecayClock:
    """Weighs occurrences as of one origin, in half-lives."""

    def __init__(self, half_life_ms: int, origin: int = 0) -> None:
        self.half_life_ms, self.origin = half_life_ms, origin

    def advance(self, newest_ms: int) -> int:
        """Move the origin if a time lies too far past it; return the exponent of two by which to scale all sums."""
        newest = newest_ms // self.half_life_ms
        if newest - self.origin <= _FAR:
            return 0
        step, self.origin = self.origin - newest, newest
        return max(step, -_GONE)

    def weights(self, ts_ms_n: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weights of occurrences, [n]."""
        whole_n, rest_n = np.divmod(ts_ms_n, self.half_life_ms)
        weight_n: NDArray[np.float64] = np.ldexp(np.exp2(rest_n / self.half_life_ms), whole_n - self.origin)
        return weight_n

    def decayed(self, sums: NDArray[np.float64], at_ms: int) -> NDArray[np.float64]:
        """Return sums as of a time, or in proportion to them where the largest would be above 2^256."""
        whole, rest = divmod(at_ms, self.half_life_ms)
        most = _MOST - int(np.frexp(sums.max(initial=0.0))[1])
        step = max(min(self.origin - whole, most), -_GONE)
        counts: NDArray[np.float64] = sums * 2.0**step if abs(step) < _EXACT else np.ldexp(sums, step)
        counts /= np.exp2(rest / self.half_life_ms)
        return counts

    def factors(self, at_ms_T: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors that make sums as of these times, [T]; at most 2^256."""
        whole_T, rest_T = np.divmod(at_ms_T, self.half_life_ms)
        steps_T = np.minimum(self.origin - whole_T, _MOST)
        factor_T: NDArray[np.float64] = np.ldexp(np.exp2(-rest_T / self.half_life_ms), steps_T)
        return factor_T
