"""A process's own wall clock: time.time is off by the seconds that a file says, read again as it changes.

Python imports this first where its folder is on PYTHONPATH; CHAOS_CLOCK names the file. Monotonic clocks stay.
"""

import os
import time
from pathlib import Path

_READ_S = 0.2


class _Clock:
    """A clock that is off."""

    def __init__(self, path: Path) -> None:
        self._path, self._real, self._monotonic = path, time.time, time.monotonic
        self._shift_s = self._read_at = 0.0

    def time(self) -> float:
        """Return the shifted time in seconds since 1970."""
        now = self._monotonic()
        if now - self._read_at > _READ_S:
            self._read_at = now
            if text := self._path.read_text():  # empty for a moment while it is written
                self._shift_s = float(text)
        return self._real() + self._shift_s


if "CHAOS_CLOCK" in os.environ:
    time.time = _Clock(Path(os.environ["CHAOS_CLOCK"])).time
