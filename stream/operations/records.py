"""Records of Kafka as they lie in its logs: whole topics, their last records and event times, one record at a place.

As workers read them: without what was aborted, and up to the first transaction that is open.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

from stream.config import StreamSettings
from stream.errors import BrokerError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import count_partitions, topic_name
from stream.schema.dead_letters import RefusedError
from stream.schema.events import decode_event
from stream.schema.record_time import TimeBounds
from stream.schema.topics import SourceTopic

Place = tuple[str, int]  # topic in Kafka, partition
Find = Callable[[Place, int], Any | None]  # (where, offset) → the record, None where Kafka has it no more
_SILENCE_S: Final = 15.0
_NEWEST: Final = 100  # last records of a partition, whose largest time is taken for its log's: some may be late


def read_topic(kafka: Kafka, topic: str) -> Iterator[Any]:
    """Yield a topic's records, each partition from its first to the last that it has now, in transactions or not.

    Raises:
        BrokerError: Kafka does not answer, or has no such topic.
    """
    places = _places(kafka, [topic])
    with clients.offsets_client(kafka) as client:
        yield from _read(client, _bounds(client, places))


def read_last(kafka: Kafka, topics: Iterable[str], count: int) -> Iterator[Any]:
    """Yield the last records, at most `count`, of each partition of those topics that exist.

    Raises:
        BrokerError: Kafka does not answer.
    """
    places = _all_of(count_partitions(kafka, topics))
    with clients.offsets_client(kafka, committed=True) as client:
        bounds = _bounds(client, places)
        yield from _read(client, {place: (max(first, end - count), end) for place, (first, end) in bounds.items()})


def read_between(kafka: Kafka, bounds: Mapping[Place, tuple[int, int]]) -> Iterator[Any]:
    """Yield the records of each partition from a first offset to before an end.

    Raises:
        BrokerError: Kafka does not answer.
    """
    with clients.offsets_client(kafka, committed=True) as client:
        yield from _read(client, bounds)


@contextmanager
def lookup(kafka: Kafka) -> Iterator[Find]:
    """Yield what returns the record at an offset of a partition, None where Kafka has it no more.

    Raises:
        BrokerError: Kafka does not answer.
    """
    with clients.offsets_client(kafka, committed=True) as client:

        def find(place: Place, offset: int) -> Any | None:
            if place[1] not in (client.partitions_for_topic(place[0]) or ()):
                return None
            first, end = _bounds(client, [place])[place]
            found = _read(client, {place: (offset, offset + 1)}) if first <= offset < end else ()
            return next((record for record in found if record.offset == offset), None)

        yield find


def log_bounds(kafka: Kafka, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
    """Return the first offset of each partition and the one after its last, in an open transaction or not.

    Raises:
        BrokerError: Kafka does not answer.
    """
    with clients.offsets_client(kafka) as client:
        return _bounds(client, places)


def whole_bounds(kafka: Kafka, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
    """Return the same, of logs in which everything can be read.

    Raises:
        BrokerError: A transaction is open in one, or Kafka does not answer.
    """
    bounds = log_bounds(kafka, places)
    with clients.offsets_client(kafka, committed=True) as client:
        readable = _bounds(client, bounds)
    for (topic, number), (_, end) in readable.items():
        if end < bounds[topic, number][1]:
            raise BrokerError(
                f"{topic}[{number}] has a transaction that is open from offset {end} on: stop the producers, let each "
                "commit or abort what it has begun (kafka-transactions.sh names those that hang), and repeat the "
                "command."
            )
    return bounds


def topic_clocks(kafka: Kafka, settings: StreamSettings, source: SourceTopic) -> dict[int, int]:
    """Return the event time in ms that each partition of a topic has reached, as far as its last records say.

    Those of open transactions count as if these were committed. Workers refuse as late what lies more than `lateness_s`
    before it (stream/join/reorder_buffer.py).

    Raises:
        BrokerError: Kafka does not answer.
    """
    clocks: dict[int, int] = {}
    topics = [topic_name(settings, source.topic)]
    for record in chain(read_last(kafka, topics, _NEWEST), _read_behind_open(kafka, topics, _NEWEST)):
        if (reached_ms := _reached_ms(record, settings.time_bounds, source)) is not None:
            clocks[record.partition] = max(clocks.get(record.partition, reached_ms), reached_ms)
    return clocks


def _read_behind_open(kafka: Kafka, topics: Iterable[str], count: int) -> Iterator[Any]:
    """Yield the last records, at most `count`, from the first open transaction of each partition on."""
    places = list(_all_of(count_partitions(kafka, topics)))
    with clients.offsets_client(kafka) as client:
        bounds = _bounds(client, places)
        with clients.offsets_client(kafka, committed=True) as readable:
            begins = {place: end for place, (_, end) in _bounds(readable, places).items()}
        yield from _read(client, {place: (max(begins[place], end - count), end) for place, (_, end) in bounds.items()})


def _reached_ms(record: Any, bounds: TimeBounds, source: SourceTopic) -> int | None:
    """Return how far a record moves its topic's clock, None if it is refused."""
    replayed = bounds.replayed_ms(record) is not None
    try:
        latest_ms = None if replayed else bounds.latest_ms(record)
        event = decode_event(source, record.value, max_slate=None, now_ms=latest_ms)
    except RefusedError:
        return None
    ts_ms = event if isinstance(event, int) else event.ts_ms
    return ts_ms if replayed else bounds.reached_ms(record, ts_ms)


def _places(kafka: Kafka, topics: list[str]) -> list[Place]:
    found = count_partitions(kafka, topics)
    missing = [topic for topic in topics if topic not in found]
    if missing:
        raise BrokerError(f"Kafka at {kafka} lacks the topic {', '.join(missing)}; run hstu topics create.")
    return _all_of(found)


def _all_of(partitions: Mapping[str, int]) -> list[Place]:
    return [(topic, number) for topic, count in partitions.items() for number in range(count)]


def _bounds(client: Any, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
    of_kafka = [clients.TopicPartition(*place) for place in places]
    first, end = client.beginning_offsets(of_kafka), client.end_offsets(of_kafka)
    return {tuple(place): (first[place], end[place]) for place in of_kafka}


def _read(client: Any, bounds: Mapping[Place, tuple[int, int]]) -> Iterator[Any]:
    """Yield the records of [first, end) of each partition; those of one partition come in order."""
    left = {clients.TopicPartition(*place): end for place, (first, end) in bounds.items() if first < end}
    client.assign(list(left))
    client.resume(*left)
    for place in left:
        client.seek(place, bounds[tuple(place)][0])
    heard = time.monotonic()
    while left:
        for place, records in client.poll(timeout_ms=500).items():
            heard = time.monotonic()
            yield from (record for record in records if record.offset < left.get(place, 0))
        ended = [place for place, end in left.items() if client.position(place) >= end]
        client.pause(*ended)
        for place in ended:
            del left[place]
        if time.monotonic() - heard > _SILENCE_S:
            raise BrokerError(f"Kafka has sent nothing for {_SILENCE_S:g} s while records were left; try again.")
