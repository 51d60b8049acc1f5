"""Reading a socket up to a moment: a timeout of a socket counts anew for each of its reads, and bytes may trickle."""

import io
import socket
import time
from typing import Any


class TimedReader(io.RawIOBase):
    """The bytes that a socket brings, for an io.BufferedReader.

    Args:
        source: The socket, which stays open when this is closed.
        until_s: By time.monotonic; a read that would last longer raises TimeoutError.
    """

    def __init__(self, source: socket.socket, until_s: float) -> None:
        self._source, self._until_s = source, until_s

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a part of the buffer, and return how many bytes; 0 at the end.

        Raises:
            TimeoutError: The time is over.
        """
        before_s = self._source.gettimeout()
        self._source.settimeout(time_left(self._until_s))
        try:
            return self._source.recv_into(buffer)
        finally:
            self._source.settimeout(before_s)  # for what is written


def time_left(until_s: float) -> float:
    """Return the seconds up to a moment of time.monotonic.

    Raises:
        TimeoutError: It has passed.
    """
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s
