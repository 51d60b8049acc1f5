"""Negatives of one micro-batch: some uniform over the live items, the others by a power of their decayed popularity.

R = rows of the item table, V = live rows among them, K = negatives. Where V <= K, every live row is a negative once,
and the loss is that of the softmax over all items. Else K rows are drawn: uniform ones keep the scores of the long tail
down, popular ones are hard. The loss corrects negatives for the proportions by the expected count of a row:

    K q(j) = K_u / V + K_p * w(j) / sum of live w        w = popularity^power, K_u = ceil(K * uniform), K_u + K_p = K

Rows are drawn with replacement from counts that the stream has shown so far, so the formula is exact. The positives of
the same micro-batch, whose distribution nobody knows exactly, are no negatives of one another unless drawn.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.config import TrainSettings
from model.errors import ModelError

_LEAST: Final = 1e-300  # total of weights; what has faded further is popular no more, and could not be divided by


@dataclass(frozen=True, slots=True, eq=False)
class Negatives:
    """Rows drawn, and the expected count of any live row among them."""

    rows: NDArray[np.int64]  # [K], or [V] where these are fewer; all live
    uniform: float  # K_u / V; 1 where every live row is a negative
    by_weight: float  # K_p / sum of live w
    popularity: NDArray[np.float64]  # [R]
    power: float
    live: int  # V

    def log_q(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return log(K q(row)) of each live row, in the shape of `rows`."""
        return np.log(self.uniform + self.by_weight * self.popularity[rows] ** self.power)


def draw(
    live_rows: NDArray[np.int64], popularity_R: NDArray[np.float64], train: TrainSettings, rng: np.random.Generator
) -> Negatives:
    """Draw `train.negatives` rows, or take all where there are no more.

    All are uniform where no live row is popular yet. Cost O(V + count log V).

    Args:
        live_rows: Rows that may be drawn.
        popularity_R: Their popularity, and that of all other rows.
        train: How many, and by which mixture.
        rng: Where the draw comes from.

    Raises:
        ModelError: There is no live row, or a popularity is negative.
    """
    count = train.negatives
    if not len(live_rows):
        raise ModelError(
            f"No live item to draw {count} negatives from; admit the items of a micro-batch before learning."
        )
    popularity_V = popularity_R[live_rows] if len(live_rows) < len(popularity_R) else popularity_R
    if popularity_V.min() < 0:
        raise ModelError(
            f"Row {live_rows[popularity_V.argmin()]} has popularity {popularity_V.min()}; it must be 0 or more."
        )
    power = train.negatives_power
    if len(live_rows) <= count:
        return Negatives(live_rows, 1.0, 0.0, popularity_R, power, live=len(live_rows))
    upto_V = np.cumsum(popularity_V if power == 1 else popularity_V**power, dtype=np.float64)
    total = float(upto_V[-1])
    popular = count - math.ceil(count * train.negatives_uniform) if total > _LEAST else 0
    uniform = rng.integers(len(live_rows), size=count - popular)
    at = np.searchsorted(upto_V, rng.random(popular) * total, side="right")
    at = np.minimum(at, len(live_rows) - 1)  # a product may round up to the total
    return Negatives(
        rows=live_rows[np.concatenate((uniform, at))],
        uniform=(count - popular) / len(live_rows),
        by_weight=popular / total if popular else 0.0,
        popularity=popularity_R,
        power=power,
        live=len(live_rows),
    )
