"""The speed of a replay: as fast as Kafka takes it, a number of events a second, or a multiple of recorded time."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from sim.errors import SimError

_SPEED = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>/s|x)")


@dataclass(frozen=True, slots=True)
class Speed:
    """A speed; at most one of the two is set, and with neither a replay never waits."""

    events_per_s: float | None = None
    times_recorded: float | None = None


def parse_speed(text: str) -> Speed:
    """Read "max", "5000/s" or "60x".

    Raises:
        SimError: It is none of these, or zero.
    """
    if text == "max":
        return Speed()
    match = _SPEED.fullmatch(text.strip())
    if match is None or float(match["number"]) == 0:
        raise SimError(
            f"--speed {text} is no speed; give max, events a second (5000/s), or a multiple of recorded time (60x)."
        )
    number = float(match["number"])
    return Speed(events_per_s=number) if match["unit"] == "/s" else Speed(times_recorded=number)


class RateLimit:
    """Computes how long to wait for the next event; its clock starts with the first one.

    Args:
        speed: The speed to keep.
        clock: Returns seconds that never go back.
    """

    def __init__(self, speed: Speed, clock: Callable[[], float] = time.monotonic) -> None:
        self.speed = speed
        self._clock = clock
        self._begun_s: float | None = None
        self._begun_ms = 0
        self._passed = 0
        self._last_ms = 0

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.speed != Speed()

    def wait_s(self, ts_ms: int) -> float:
        """Return the seconds until an event of this time is due; 0 or less means now."""
        if not self.limited:
            return 0.0
        if self._begun_s is None:
            self._begun_s, self._begun_ms, self._last_ms = self._clock(), ts_ms, ts_ms
        if self.speed.events_per_s is not None:
            due_s = self._passed / self.speed.events_per_s
        else:
            due_s = (ts_ms - self._begun_ms) / 1000 / (self.speed.times_recorded or 1.0)
        return self._begun_s + due_s - self._clock()

    def passed(self, ts_ms: int) -> None:
        """Note that an event of this time was sent."""
        self._passed += 1
        self._last_ms = ts_ms

    def reached_ms(self, next_ms: int) -> int:
        """Return the event time reached while waiting for the event of time `next_ms`."""
        if self.speed.times_recorded is None or self._begun_s is None:
            return self._last_ms
        elapsed_ms = (self._clock() - self._begun_s) * 1000 * self.speed.times_recorded
        return max(self._last_ms, min(self._begun_ms + int(elapsed_ms), next_ms))
