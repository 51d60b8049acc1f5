"""Dead-letters: records that cannot be decoded or are out of bounds, with the reason. They stop no worker.

A dead-letter's Kafka record has the key and the value of the refused record, byte for byte, and these headers (UTF-8):
`reason` (one of Reason), `detail` (a sentence), `topic`, `partition`, `offset`, and `id`: the last three joined by
slashes. A letter that a crash sends twice, or a rebuilt store once more, has the same id. A value above 512 KiB and a
key above 256 KiB are truncated to 64 KiB; `cut-from-bytes` and `key-cut-from-bytes` say how long they were.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a record was refused; the label of the metric."""

    EMPTY = "empty"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too-large"
    TOO_DEEP = "too-deep"
    NOT_JSON = "not-json"
    WRONG_TYPE = "wrong-type"
    MISSING_FIELD = "missing-field"
    BAD_TIME = "bad-time"
    FUTURE = "future"
    LATE = "late"
    EMPTY_ID = "empty-id"
    LONG_ID = "long-id"
    EMPTY_SLATE = "empty-slate"
    LONG_SLATE = "long-slate"
    DUPLICATE_ITEM = "duplicate-item"
    COLLISION = "collision"


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
