"""Page-Hinkley on a standardised value: an alarm once its mean has risen and stays up.

    z_t = (x_t - mean) / deviation, of the values before x_t, both exponentially weighted over HORIZON values
    g_t = max(0, g_{t-1} + z_t - SLACK); alarm where g_t > LIMIT, and all begins anew

Source: Page, Continuous inspection schemes (1954), for one side; the mean and deviation are estimated, since neither is
known of a loss or a rate. They follow what changes slowly, such as a model that learns: only a move faster than HORIZON
is an alarm. z is at most CLIP, so that one outlier alone is none. The mean and deviation take an outlier as if its z
were CLIP as well: one that begins a rise does not hide the value after it.

What follows an alarm is no reference: while the model learns anew, its misses and its loss fall, which makes the mean
too high and the deviation too large for the next rise. So the first SETTLE values after an alarm are passed over, and
the next WARM_UP_AGAIN only estimated from. At the beginning WARM_UP values are, all from the first on: the loss rises
then, and its deviation has to know. The constants were chosen on seeds 1 and 2 of the streams of bench/drift.py, which
reports others, and on simulated noise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

WARM_UP: Final = 15  # values before the first that is tested
SETTLE: Final = 7  # values after an alarm that count for nothing
WARM_UP_AGAIN: Final = 10  # values after these
HORIZON: Final = 20
SLACK: Final = 0.75  # standard deviations
LIMIT: Final = 5.0
CLIP: Final = 5.0


@dataclass(frozen=True, slots=True)
class Level:
    """What a value is like over blocks."""

    mean: float
    deviation: float


class PageHinkley:
    """Looks for a rise of one value.

    Args:
        least: The least standard deviation that is believed.
    """

    def __init__(self, least: float = 1e-6) -> None:
        self._least = least
        self._begin(0, WARM_UP)

    def _begin(self, seen: int, warm_up: int) -> None:
        self._seen, self._warm_up = seen, warm_up
        self._mean = self._variance = self._sum = 0.0

    def add(self, value: float) -> bool:
        """Take the next value, and return whether it is an alarm."""
        if self._seen < 0:
            self._seen += 1
            return False
        if self._seen >= self._warm_up:
            value = min(value, self._mean + CLIP * self._deviation())
            self._sum = max(0.0, self._sum + (value - self._mean) / self._deviation() - SLACK)
        if self._sum > LIMIT:
            self._begin(-SETTLE, WARM_UP_AGAIN)
            return True
        weight = 1 / min(self._seen + 1, HORIZON)
        self._seen += 1
        gap = value - self._mean
        self._mean += weight * gap
        self._variance = (1 - weight) * (self._variance + weight * gap * gap)
        return False

    @property
    def level(self) -> Level | None:
        """Mean and deviation of the values before the next; None where there are none."""
        return Level(self._mean, self._deviation()) if self._seen > 0 else None

    def _deviation(self) -> float:
        return max(math.sqrt(self._variance), self._least)

    def state(self) -> dict[str, Any]:
        """Return all there is, for JSON."""
        counts = {"seen": self._seen, "warm_up": self._warm_up}
        return counts | {"mean": self._mean, "variance": self._variance, "sum": self._sum}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Replace everything by what a state holds."""
        self._seen, self._warm_up = state["seen"], state["warm_up"]
        self._mean, self._variance, self._sum = state["mean"], state["variance"], state["sum"]
