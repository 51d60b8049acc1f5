"""Whether a model has recovered from a drift: it misses no more targets than before.

It has once its misses over BLOCKS blocks after the last alarm are within one deviation, of a block, of their mean
before the first. A mean of five blocks has 0.45 deviations of its own, so this is a doubt of two standard errors.
"""

from collections.abc import Mapping
from typing import Any, Final

from model.drift.page_hinkley import Level

BLOCKS: Final = 5


class Recovery:
    """Follows the misses from an alarm until the model has recovered."""

    def __init__(self) -> None:
        self.before: Level | None = None  # None: it has recovered, or there was no alarm
        self.targets = 0  # tested at the last alarm
        self.signal = ""  # of that alarm
        self._misses: list[float] = []  # of the last blocks since

    @property
    def waiting(self) -> bool:
        """Whether there was an alarm, and the model has not recovered yet."""
        return self.before is not None

    @property
    def of_late(self) -> float | None:
        """Mean misses of the last blocks since the alarm; None before the first of them."""
        return sum(self._misses) / len(self._misses) if self._misses else None

    def begin(self, signal: str, targets: int, before: Level | None) -> None:
        """Take an alarm.

        Args:
            signal: What has risen.
            targets: Targets tested until then.
            before: Misses of the blocks before; None where none were tested, so that nothing can be followed. Those
                before an alarm from which the model has not recovered stay.
        """
        self.before = self.before or before
        self.signal, self.targets, self._misses = signal, targets, []

    def add(self, misses: float) -> None:
        """Take the misses of a block after the alarm."""
        if self.before is None:
            return
        self._misses = [*self._misses, misses][-BLOCKS:]
        if len(self._misses) == BLOCKS and sum(self._misses) / BLOCKS <= self.before.mean + self.before.deviation:
            self.before = None

    def state(self) -> dict[str, Any]:
        """Return all there is, for JSON."""
        before = [self.before.mean, self.before.deviation] if self.before else None
        return {"before": before, "targets": self.targets, "signal": self.signal, "misses": list(self._misses)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Replace everything by what a state holds."""
        self.before = Level(*state["before"]) if state["before"] else None
        self.targets, self.signal, self._misses = state["targets"], state["signal"], list(state["misses"])
