"""Dead-letters: records that cannot be decoded or are out of bounds, with the reason. They stop no worker.

A dead-letter's Kafka record has the key and the value of the refused record, byte for byte, and these headers (UTF-8):
`reason` (one of Reason), `detail` (a sentence), `topic`, `partition`, `offset`, and `id`: the last three joined by
slashes. A letter that a crash sends twice, or a rebuilt store once more, has the same id, key and value. A value above
512 KiB and a key above 256 KiB are truncated to 64 KiB; `cut-from-bytes` and `key-cut-from-bytes` say how long they
were.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a record was refused; the label of the metric."""

    EMPTY = "empty"
    """The record has no value."""
    UNREADABLE = "unreadable"
    """The name of a header is not UTF-8, or Kafka has taken a batch that its clients cannot decompress."""
    TOO_LARGE = "too-large"
    """The value has more than 1 MiB."""
    TOO_DEEP = "too-deep"
    """The value has more than 32 levels of brackets and braces."""
    NOT_JSON = "not-json"
    """The value is not JSON."""
    WRONG_TYPE = "wrong-type"
    """A field has another type than it must have."""
    MISSING_FIELD = "missing-field"
    """A field is missing."""
    BAD_TIME = "bad-time"
    """The event time lies outside 1970 to 2200, as microseconds do; or a live record has today's time in seconds."""
    FUTURE = "future"
    """The event time lies more than stream.future_s ahead of the record's Kafka timestamp."""
    LATE = "late"
    """The event time lies more than stream.lateness_s behind what its topic's partition has shown."""
    EMPTY_ID = "empty-id"
    """An id is empty."""
    LONG_ID = "long-id"
    """An id has more than 256 bytes."""
    EMPTY_SLATE = "empty-slate"
    """An impression shows nothing."""
    LONG_SLATE = "long-slate"
    """An impression shows more than stream.max_slate items."""
    DUPLICATE_ITEM = "duplicate-item"
    """An impression shows an item more than once."""
    COLLISION = "collision"
    """Two texts have one 64-bit key; the first is kept."""


class RefusedError(Exception):
    """A record that goes to dead-letters; raised where the event is decoded, buffered and joined."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record and its place in Kafka."""

    reason: Reason
    detail: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers of its Kafka record."""
        pairs = {
            "reason": self.reason.value,
            "detail": self.detail,
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "id": f"{self.topic}/{self.partition}/{self.offset}",
        }
        return [(name, text.encode(errors="replace")) for name, text in pairs.items()]
