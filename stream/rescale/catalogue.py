"""The records of `items` copied into more partitions: the last of each item, as compaction keeps them.

They go in the order of their times, so that no record comes after the clock of its new partition has passed it. The
order is a function of the old topic. So where a copy was broken off, what is there is the beginning of what is to be
there, and the next one goes on behind it.
"""

from collections import defaultdict
from typing import Any, Final

from stream.config import StreamSettings
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import count_partitions, topic_name
from stream.operations.records import log_bounds, read_between, read_topic
from stream.rescale.barrier import not_empty
from stream.schema.ids import partition_of
from stream.schema.record_time import Headers, TimeBounds, replay_headers, unreadable
from stream.schema.topics import ITEMS, ITEMS_HEARTBEAT_KEY

_PENDING: Final = 10_000
_SEND_S: Final = 60.0
_ANY: Final = TimeBounds()

Copy = tuple[bytes, bytes | None, Headers]  # key, value, headers


def read_catalogue(kafka: Kafka, settings: StreamSettings, partitions: int) -> list[list[Copy]]:
    """Return the records to copy, in order, by new partition; nothing where there is no topic `items`.

    Raises:
        BrokerError: Kafka does not answer.
    """
    name = topic_name(settings, ITEMS)
    if not count_partitions(kafka, [name]):
        return [[] for _ in range(partitions)]
    last: dict[bytes, tuple[int, Any]] = {}
    for record in read_topic(kafka, name):
        key = record.key or b""
        if key == ITEMS_HEARTBEAT_KEY or unreadable(record):
            continue
        time_ms = _time_ms(record)
        if key not in last or last[key][1].partition == record.partition or last[key][0] <= time_ms:
            last[key] = time_ms, record
    copies: dict[int, list[Copy]] = defaultdict(list)
    for key, (time_ms, record) in sorted(last.items(), key=lambda item: (item[1][0], item[0])):
        copies[partition_of(key, partitions)].append((key, record.value, _headers(record, time_ms)))
    return [copies[number] for number in range(partitions)]


def _time_ms(record: Any) -> int:
    replayed_ms = _ANY.replayed_ms(record)
    return record.timestamp if replayed_ms is None else replayed_ms


def _headers(record: Any, time_ms: int) -> Headers:
    """Return a record's headers; one without a value keeps its time, which it has nowhere else."""
    if record.value is None and _ANY.replayed_ms(record) is None:
        return (*record.headers, *replay_headers(time_ms))
    return tuple(record.headers)


def copy_catalogue(kafka: Kafka, new: StreamSettings, copies: list[list[Copy]]) -> None:
    """Write what the new topic lacks.

    Raises:
        BrokerError: The topic holds something else, or Kafka does not take a record.
    """
    name = topic_name(new, ITEMS)
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


def refuse_other_catalogue(kafka: Kafka, new: StreamSettings, copies: list[list[Copy]]) -> None:
    """Check that the new topic, where it exists, holds nothing but a beginning of the copy.

    Raises:
        BrokerError: It holds something else.
    """
    name = topic_name(new, ITEMS)
    if count_partitions(kafka, [name]):
        _copied(kafka, name, copies)


def _wait(pending: list[Any]) -> None:
    for each in pending:
        each.get(timeout=_SEND_S)
    pending.clear()


def _copied(kafka: Kafka, name: str, copies: list[list[Copy]]) -> list[int]:
    """Return how many records of each partition were copied before; the last of them must be one of ours."""
    bounds = log_bounds(kafka, [(name, number) for number in range(len(copies))])
    ends = [bounds[name, number][1] for number in range(len(copies))]
    if any(end > len(of_partition) for end, of_partition in zip(ends, copies, strict=True)):
        raise not_empty(name)
    for record in read_between(kafka, {(name, number): (end - 1, end) for number, end in enumerate(ends) if end}):
        key, value, _ = copies[record.partition][record.offset]
        if (record.key, record.value) != (key, value):
            raise not_empty(name)
    return ends
