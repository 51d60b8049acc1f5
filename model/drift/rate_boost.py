"""Higher learning rates for a bounded number of micro-batches after an alarm (train.drift_boost)."""

from typing import Final

BOOSTS: Final = "loss"  # the signal: `misses` depends on which targets are tested, which must move no bit


class RateBoost:
    """Says by how much the learning rates are raised now.

    Args:
        ratio: Rates of a boost, in multiples of the usual ones; 1: there are no boosts.
        steps: Micro-batches of one.
    """

    def __init__(self, ratio: float, steps: int) -> None:
        self.on = ratio != 1
        self.left = 0  # micro-batches to come
        self._ratio, self._steps = ratio, steps

    def begin(self) -> None:
        """Boost the next micro-batches; one that goes on begins anew."""
        self.left = self._steps if self.on else 0

    def take(self) -> float:
        """Return the ratio for the next micro-batch."""
        if not self.left:
            return 1.0
        self.left -= 1
        return self._ratio
