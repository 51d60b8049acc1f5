"""The last dead letters, read in a thread: a Kafka that does not answer keeps no page waiting."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

SHOWN: Final = 8
LettersReader = Callable[[int], Sequence[dict[str, Any]]]
"""Returns the last dead letters, newest first, each with "id", "reason", "detail" and "ts_ms"."""
_EVERY_S: Final = 10.0  # each time is a connection to Kafka
_PATIENCE_S: Final = 0.3  # a Kafka at hand has answered by then, so that the first page has its letters


class LastLetters:
    """Reads the last dead letters every ten seconds at most, one read at a time.

    Args:
        read: Reads them; None where no Kafka is named.
        clock: Monotonic seconds.
        patience_s: How long a look waits for a read that it has begun.
    """

    def __init__(
        self,
        read: LettersReader | None,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._read, self._clock, self._patience_s = read, clock, patience_s
        self._begun_s = float("-inf")
        self._reading: threading.Thread | None = None
        self._last: list[dict[str, Any]] | None = None
        self._problem: str | None = None

    def look(self) -> dict[str, Any]:
        """Return the letters of the last read that succeeded, and what keeps newer ones away; never waits for Kafka."""
        if self._read is None:
            return {"last": None, "problem": None}
        running = self._reading is not None and self._reading.is_alive()
        if not running and self._clock() >= self._begun_s + _EVERY_S:
            self._begun_s = self._clock()
            self._reading = threading.Thread(target=self._try, args=(self._read,), name="dead letters", daemon=True)
            self._reading.start()
            self._reading.join(self._patience_s)
            running = self._reading.is_alive()
        waits = "Kafka has not answered yet." if running else None
        return {"last": self._last, "problem": self._problem or waits}

    def _try(self, read: LettersReader) -> None:
        try:
            self._last, self._problem = list(read(SHOWN)), None
        except Exception as error:  # whatever Kafka's client raises; the page goes on without them
            self._problem = f"Kafka does not show them ({type(error).__name__})."
