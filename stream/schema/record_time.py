"""What a record's own Kafka timestamp allows its event time to do: a function of the log, and of no host's clock.

    record      may lie ahead of its Kafka timestamp     moves its topic's clock to
    live        by `future_s`; beyond that it is refused  min(ts, Kafka timestamp)
    replayed    as far as it likes                        ts

A live record is whatever a producer sends. A replayed one says so in a header, since times of a recorded or simulated
log have nothing to do with the time of sending. Topics are made with LogAppendTime, so that the timestamp is the
broker's and not the producer's.

    header           value
    hstu-replay      event time in ms, as text (a tombstone has no other place for it)
    hstu-idle        empty: a heartbeat that a worker wrote into a silent topic
    hstu-rescaled    which log this one goes on with: the first record of a log that hstu topics rescale has begun
    hstu-unreadable  why the record cannot be read as it was sent; our consumers add it (stream/kafka/record_batches.py)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

REPLAY_HEADER: Final = "hstu-replay"
IDLE_HEADER: Final = "hstu-idle"
RESCALED_HEADER: Final = "hstu-rescaled"
UNREADABLE_HEADER: Final = "hstu-unreadable"
_CENTURY_MS: Final = 10**12  # in 2001
IDLE: Final = ((IDLE_HEADER, b""),)

Headers = Sequence[tuple[str, bytes | None]]


class Timed(Protocol):
    """The part of a record that decides about its time."""

    @property
    def timestamp(self) -> int:
        """Kafka's own time of the record in ms."""

    @property
    def headers(self) -> Headers:
        """The record's headers."""


def replay_headers(ts_ms: int) -> Headers:
    """Return the headers of a replayed record of this event time."""
    return ((REPLAY_HEADER, b"%d" % ts_ms),)


def is_idle(record: Timed) -> bool:
    """Return whether a worker wrote the record into a silent topic."""
    return IDLE_HEADER in [name for name, _ in record.headers or ()]


def unreadable(record: Timed) -> str:
    """Return why a record cannot be read as it was sent, empty if it can."""
    for name, value in record.headers or ():
        if name == UNREADABLE_HEADER:
            return (value or b"").decode(errors="replace") or "its producer says so"
    return ""


def rescaled(record: Timed) -> str:
    """Return which log the one that begins with this record goes on with, empty if it is an ordinary record."""
    for name, value in record.headers or ():
        if name == RESCALED_HEADER:
            return (value or b"").decode(errors="replace") or "another"
    return ""


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """How far records may move event time; every process that shares the topics must agree.

    Args:
        future_ms: How far a live record may lie ahead of its Kafka timestamp; 0: any distance.
        replays: Whether a record that says it is replayed is believed.
    """

    future_ms: int = 300_000
    replays: bool = True

    def replayed_ms(self, record: Timed) -> int | None:
        """Return the event time that a replayed record names, its Kafka timestamp if it names none; None: it is live.

        Kafka's headers are few, and most records have none.
        """
        for name, value in record.headers if self.replays else ():
            if name == REPLAY_HEADER:
                named = value or b""  # Kafka lets a header's value be null
                return int(named) if named.isdigit() and len(named) < 17 else record.timestamp
        return None

    def latest_ms(self, record: Timed) -> int | None:
        """Return the latest time that the record may have, None for any."""
        return record.timestamp + self.future_ms if self.future_ms else None

    @staticmethod
    def in_seconds(ts: int, latest_ms: int) -> bool:
        """Return whether a live record of this century has its time in seconds: of 1970 in ms, of late in s."""
        return latest_ms > _CENTURY_MS and 9 * latest_ms < 10_000 * ts <= 10 * latest_ms

    def reached_ms(self, record: Timed, ts_ms: int) -> int:
        """Return how far a live record of this time moves its topic's clock."""
        return min(ts_ms, record.timestamp)


DEFAULT_BOUNDS: Final = TimeBounds()
