"""What a source is, and what a replay sends of it, in this order:

    heartbeats    to every partition of every topic, at the time of the first event: a replay drives them from here on
    catalogue     every record of it, to topic `items`, at that time
    events        in event-time order
    heartbeats    to every partition of every topic after each HEARTBEAT_EVENTS events, at the time reached
    END_OF_TIME   the last heartbeat of every partition: the log is over; where another log follows in the same topics,
                  the time of its last event

Kafka and the run in one process both get their events from here, so they see the same stream.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from stream.schema import events
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import EVENTS, ITEMS, ITEMS_HEARTBEAT_KEY, SourceTopic

TOPICS: Final = (*EVENTS, ITEMS)
HEARTBEAT_EVENTS: Final = 2_000


class SourceEvent(NamedTuple):
    """One record to send; `topic` is without the configured prefix."""

    topic: str
    key: bytes | None
    value: bytes | None
    ts_ms: int
    partition: int | None = None
    """Set for a heartbeat; if it is None, the key decides."""


class Source(Protocol):
    """A finite stream of events in time order that can begin anywhere."""

    @property
    def name(self) -> str:
        """Its name for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal only for sources of the same events."""
        ...

    @property
    def catalogue(self) -> Sequence[tuple[str, bytes]]:
        """Item id and JSON value of each record of topic `items`."""
        ...

    @property
    def first_ms(self) -> int:
        """Event time of the first event."""
        ...

    def __len__(self) -> int:
        """Return the number of events, without the catalogue."""
        ...

    def events(self, start: int = 0) -> Iterator[SourceEvent]:
        """Yield the events from number `start` on."""
        ...


def total(source: Source) -> int:
    """Return the number of records that `replay_events` yields, without heartbeats."""
    return len(source.catalogue) + len(source)


def replay_events(source: Source, partitions: int, start: int = 0, *, ends: bool = True) -> Iterator[SourceEvent]:
    """Yield all that a replay sends, from record number `start` on; heartbeats are not counted.

    Args:
        source: What is replayed.
        partitions: Those of every topic.
        start: Number of the first record.
        ends: Whether time ends with it, so that nothing can follow.
    """
    first_ms = last_ms = source.first_ms
    if not start:
        yield from heartbeats(first_ms, partitions)
    for item_id, value in source.catalogue[start:]:
        yield SourceEvent(ITEMS, item_id.encode(), value, first_ms)
    begin = max(start - len(source.catalogue), 0)
    for number, event in enumerate(source.events(begin), begin + 1):
        yield event
        last_ms = event.ts_ms
        if number % HEARTBEAT_EVENTS == 0:
            yield from heartbeats(event.ts_ms, partitions)
    yield from heartbeats(END_OF_TIME_MS if ends else last_ms, partitions)


def heartbeats(ts_ms: int, partitions: int) -> Iterator[SourceEvent]:
    """Yield a heartbeat for every partition of every topic: nothing older than `ts_ms` follows."""
    value = b'{"watermark":%d}' % ts_ms
    for topic in TOPICS:
        key = ITEMS_HEARTBEAT_KEY if topic == ITEMS else None
        for partition in range(partitions):
            yield SourceEvent(topic, key, value, ts_ms, partition)


class _Action(events.Action, frozen=True, omit_defaults=True):
    """An action whose JSON omits absent fields."""


_encode: Final = msgspec.json.Encoder().encode


def action(
    user: str, item: str, name: str, ts_ms: int, request: str | None = None, value: float | None = None
) -> SourceEvent:
    """Return an action."""
    content = _encode(_Action(user, item, name, ts_ms, request, value))
    return SourceEvent(SourceTopic.ACTIONS.topic, user.encode(), content, ts_ms)


def impression(user: str, request: str, items: Sequence[str], ts_ms: int) -> SourceEvent:
    """Return an impression: a slate."""
    content = _encode(events.Impression(user, request, ts_ms, tuple(items)))
    return SourceEvent(SourceTopic.IMPRESSIONS.topic, user.encode(), content, ts_ms)


class _Item(Struct, frozen=True, omit_defaults=True):
    item_id: str
    ts: int
    title: str | None = None
    features: dict[str, Any] = {}


def item_record(item_id: str, ts_ms: int, title: str | None, features: dict[str, Any]) -> bytes:
    """Return the value of a record of topic `items`."""
    return _encode(_Item(item_id, ts_ms, title, features))
