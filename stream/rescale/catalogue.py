"""The records of `items` copied into more partitions: the last of each item, as compaction keeps them.

They go in the order of their times, so that no record comes after the clock of its new partition has passed it. The
order is a function of the old topic. So where a copy was broken off, what is there is the beginning of what is to be
there, and the next one goes on behind it.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import count_partitions, topic_name
from stream.operations.records import Place, read_between, whole_bounds
from stream.rescale.barrier import not_empty
from stream.schema.ids import partition_of
from stream.schema.record_time import Headers, TimeBounds, replay_headers, unreadable
from stream.schema.topics import ITEMS, ITEMS_HEARTBEAT_KEY

_PENDING: Final = 10_000
_SEND_S: Final = 60.0
_ANY: Final = TimeBounds()

Copy = tuple[bytes, bytes | None, Headers]  # key, value, headers


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The records to copy, in order, by new partition; and the old topic's end when they were read."""

    copies: list[list[Copy]]
    ends: dict[Place, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of records to copy."""
        return sum(map(len, self.copies))


def read_catalogue(kafka: Kafka, settings: StreamSettings, partitions: int) -> Catalogue:
    """Return what is to be copied; nothing where there is no topic `items`.

    Raises:
        BrokerError: Kafka does not answer, or a transaction is open.
    """
    bounds = _bounds(kafka, settings)
    last: dict[bytes, tuple[int, Any]] = {}
    for record in read_between(kafka, bounds):
        if _is_of_no_item(record):
            continue
        key, time_ms = record.key or b"", _time_ms(record)
        if key not in last or last[key][1].partition == record.partition or last[key][0] <= time_ms:
            last[key] = time_ms, record
    copies: dict[int, list[Copy]] = defaultdict(list)
    for key, (time_ms, record) in sorted(last.items(), key=lambda item: (item[1][0], item[0])):
        copies[partition_of(key, partitions)].append((key, record.value, _headers(record, time_ms)))
    ends = {place: end for place, (_, end) in bounds.items()}
    return Catalogue([copies[number] for number in range(partitions)], ends)


def refuse_grown(kafka: Kafka, settings: StreamSettings, catalogue: Catalogue) -> None:
    """Check that nothing has come into the old topic since it was read.

    Raises:
        StoreError: A record has, of which the new topic would know nothing.
        BrokerError: Kafka does not answer.
    """
    since = {
        place: (max(first, catalogue.ends.get(place, 0)), end)
        for place, (first, end) in _bounds(kafka, settings).items()
    }
    for record in read_between(kafka, since):
        if not _is_of_no_item(record):
            raise StoreError(
                f"{record.topic}[{record.partition}] has records from offset {record.offset} on that came after it was "
                "copied: stop the producers of items too, and repeat the same command; it asks for another "
                "--topic-prefix where what was copied does not do any more."
            )


def _bounds(kafka: Kafka, settings: StreamSettings) -> dict[Place, tuple[int, int]]:
    name = topic_name(settings, ITEMS)
    count = count_partitions(kafka, [name]).get(name, 0)
    return whole_bounds(kafka, [(name, number) for number in range(count)]) if count else {}


def _is_of_no_item(record: Any) -> bool:
    return record.key == ITEMS_HEARTBEAT_KEY or bool(unreadable(record))


def _time_ms(record: Any) -> int:
    replayed_ms = _ANY.replayed_ms(record)
    return record.timestamp if replayed_ms is None else replayed_ms


def _headers(record: Any, time_ms: int) -> Headers:
    """Return a record's headers; one without a value keeps its time, which it has nowhere else."""
    if record.value is None and _ANY.replayed_ms(record) is None:
        return (*record.headers, *replay_headers(time_ms))
    return tuple(record.headers)


def copy_catalogue(kafka: Kafka, new: StreamSettings, catalogue: Catalogue) -> None:
    """Write what the new topic lacks.

    Raises:
        BrokerError: The topic holds something else, or Kafka does not take a record.
    """
    name, copies = topic_name(new, ITEMS), catalogue.copies
    begun = _copied(kafka, name, copies)
    with clients.refusals(kafka):
        producer = clients.producer(kafka, acks="all", enable_idempotence=True, linger_ms=5)
        try:
            pending: list[Any] = []
            for number, of_partition in enumerate(copies):
                for key, value, headers in of_partition[begun[number] :]:
                    pending.append(producer.send(name, value, key=key, partition=number, headers=list(headers)))
                    if len(pending) >= _PENDING:
                        _wait(pending)
            _wait(pending)
        finally:
            producer.close()


def refuse_other_catalogue(kafka: Kafka, new: StreamSettings, catalogue: Catalogue) -> None:
    """Check that the new topic, where it exists, holds nothing but a beginning of the copy.

    Raises:
        BrokerError: It holds something else.
    """
    name = topic_name(new, ITEMS)
    if count_partitions(kafka, [name]):
        _copied(kafka, name, catalogue.copies)


def _wait(pending: list[Any]) -> None:
    for each in pending:
        each.get(timeout=_SEND_S)
    pending.clear()


def _copied(kafka: Kafka, name: str, copies: list[list[Copy]]) -> list[int]:
    """Return how many records of each partition were copied before; each must be ours, for the old topic may change.

    An offset without a record, of a transaction that was aborted, say, is none of ours.
    """
    bounds = whole_bounds(kafka, [(name, number) for number in range(len(copies))])
    ends = [bounds[name, number][1] for number in range(len(copies))]
    if any(end > len(of_partition) for end, of_partition in zip(ends, copies, strict=True)):
        raise not_empty(name)
    counts = [0] * len(copies)
    for record in read_between(kafka, {(name, number): (0, end) for number, end in enumerate(ends) if end}):
        if (record.key, record.value, tuple(record.headers)) != copies[record.partition][record.offset]:
            raise not_empty(name)
        counts[record.partition] += 1
    if counts != ends:
        raise not_empty(name)
    return ends
