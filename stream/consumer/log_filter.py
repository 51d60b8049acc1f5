"""Logging of workers and trainers on stderr: our messages, and warnings of libraries without their repetitions."""

import logging
import time
from collections.abc import Callable
from typing import Final

from stream.schema.printable import printable

_FORMAT: Final = "%(asctime)s %(levelname).1s %(message)s"
_OTHERS: Final = ("aiokafka", "faust", "mode", "kafka")
_ORDINARY: Final = (
    "because it is rebalancing",  # a group changes,
    "GroupCoordinatorNotAvailable",  # or has just begun
    "Thread keepalive is not responding",  # while loops are compiled, which says so itself
)
_AGAIN_S: Final = 30.0


def log_to_stderr() -> None:
    """Set up logging, unless it is set up already."""
    if logging.root.handlers:
        return
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("hstu").setLevel(logging.INFO)
    for handler in logging.root.handlers:
        handler.setFormatter(Printable(_FORMAT))
        handler.addFilter(News())


class Printable(logging.Formatter):
    """Formats what a terminal may print: messages quote what others have sent."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, and its traceback."""
        return printable(super().format(record))


class News(logging.Filter):
    """Of the warnings of libraries lets pass only news: nothing ordinary, and each message once in 30 s.

    While Kafka is away its client warns thirty times a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is shown."""
        if record.name.split(".")[0] not in _OTHERS:
            return True
        message, now_s = record.getMessage(), self._clock()
        if any(part in message for part in _ORDINARY):
            return False
        said_s = self._said_s.get(message)
        if said_s is not None and now_s - said_s < _AGAIN_S:
            return False
        self._said_s = {text: s for text, s in self._said_s.items() if now_s - s < _AGAIN_S} | {message: now_s}
        return True
