"""A replay's side of Kafka: what is sent, what is acknowledged, what an earlier replay has already written.

Records are sent idempotently with acks=all to the partition of the murmur2 hash of their key, the default of Kafka's
Java and Python clients. The Kafka timestamp of a record is the time of sending: retention goes by it, and would delete
a log of last year at once. A header says that a record is replayed, and its event time (stream/schema/record_time.py).
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from sim.errors import SimError
from sim.sources.source import TOPICS, SourceEvent
from stream.kafka.clients import KafkaError, TopicPartition, offsets_client, producer, reason, refusals
from stream.kafka.connection import Kafka
from stream.schema.ids import partition_of
from stream.schema.record_time import TimeBounds, replay_headers

CLOSE_S: Final = 10.0
MOST_PENDING: Final = 20_000  # unacknowledged records; with more, `send` waits for the oldest
DELIVERY_S: Final = 60.0
LAST_RECORDS: Final = 10_000  # of a partition, among which an event that lies at its end is looked for


class Written(NamedTuple):
    """A record that Kafka holds; it has the interface of the future of a sent record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    ts_ms: int = 0
    is_done: bool = True

    def succeeded(self) -> bool:
        """Return True: the record is there."""
        return True


class KafkaSink:
    """Sends events, counts those acknowledged without a hole, and skips those that are there already.

    Args:
        kafka: A cluster that is reachable and has the topics.
        partitions: The number of partitions of every topic.
        prefix: The prefix of every topic's name.
    """

    def __init__(self, kafka: Kafka, partitions: int, prefix: str) -> None:
        self.partitions = partitions
        self.offsets: dict[str, int] = {}
        self.acknowledged = 0
        self._kafka = kafka
        self._topics = {topic: prefix + topic for topic in TOPICS}
        self._pending: deque[tuple[Any, int]] = deque()
        self._there: dict[tuple[str, int], deque[Written]] = {}
        self._homes: dict[bytes, int] = {}
        with refusals(kafka):
            self._producer = producer(
                kafka,
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                batch_size=1 << 16,
                max_block_ms=int(DELIVERY_S * 1000),
                delivery_timeout_ms=int(DELIVERY_S * 1000),
                request_timeout_ms=int(DELIVERY_S * 250),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:  # close() would wait for what cannot be sent, and its thread would stay
            self._producer._sender.force_close()
        with suppress(KafkaError):
            self._producer.close(timeout=CLOSE_S)

    def send(self, event: SourceEvent) -> None:
        """Send an event unless an earlier replay has; wait if too many are unacknowledged."""
        partition = self._home(event.key or b"") if event.partition is None else event.partition
        topic = self._topics[event.topic]
        counted = int(event.partition is None)
        earlier = self._earlier(topic, partition, event) if counted and self._there else None
        self._pending.append((earlier or self._sent(topic, partition, event), counted))
        if len(self._pending) >= MOST_PENDING:
            self._wait_for_oldest()
            self.settle()

    def _sent(self, topic: str, partition: int, event: SourceEvent) -> Any:
        headers = list(replay_headers(event.ts_ms))
        try:
            return self._producer.send(topic, key=event.key, value=event.value, partition=partition, headers=headers)
        except KafkaError as error:
            raise self._lost(error) from None

    def _home(self, key: bytes) -> int:
        home = self._homes.get(key)
        if home is None:
            home = self._homes[key] = partition_of(key, self.partitions)
        return home

    def settle(self) -> None:
        """Count what has been acknowledged, up to the first hole.

        Raises:
            SimError: Kafka has refused a record, or has not taken it in time.
        """
        pending = self._pending
        while pending and pending[0][0].is_done:
            future, counted = pending.popleft()
            if not future.succeeded():
                raise self._lost(future.exception)
            record = future if isinstance(future, Written) else future.value
            self.offsets[f"{record.topic}/{record.partition}"] = record.offset + 1
            self.acknowledged += counted

    def flush(self) -> None:
        """Wait until everything sent has been acknowledged."""
        while self._pending:
            self._wait_for_oldest()
            self.settle()

    def _wait_for_oldest(self) -> None:
        oldest = self._pending[0][0]
        if not oldest.is_done:
            try:
                oldest.get(timeout=DELIVERY_S)
            except KafkaError as error:
                raise self._lost(error) from None

    def _lost(self, error: KafkaError) -> SimError:
        return SimError(
            f"Kafka at {self._kafka} did not take a record within {DELIVERY_S:g} s: {reason(error)}; "
            "see whether it runs, and repeat the same command: the replay continues where it stood."
        )

    def places(self) -> list[str]:
        """Return "topic/partition" of all that a replay writes to."""
        return [f"{place.topic}/{place.partition}" for place in self._places()]

    def ends(self) -> dict[str, int]:
        """Return the offset behind the last record of each topic and partition."""
        with offsets_client(self._kafka) as consumer:
            return {f"{at.topic}/{at.partition}": end for at, end in consumer.end_offsets(self._places()).items()}

    def reached_ms(self) -> int | None:
        """Return the furthest event time of the last records of all topics, None where all are empty."""
        times = []
        with offsets_client(self._kafka) as consumer:
            begins = consumer.beginning_offsets(self._places())
            for place, end in consumer.end_offsets(self._places()).items():
                if begins[place] < end:
                    times += [record.ts_ms for record in _read(consumer, place, end - 1, end)]
        return max(times, default=None)

    def holds(self, event: SourceEvent) -> bool:
        """Return whether an event is among the last records of its partition."""
        place = TopicPartition(self._topics[event.topic], self._home(event.key or b""))
        with offsets_client(self._kafka) as consumer:
            begin, end = consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]
            last = _read(consumer, place, max(begin, end - LAST_RECORDS), end)
            return any((record.key, record.value) == (event.key, event.value) for record in last)

    def resume(self, acknowledged: int, offsets: Mapping[str, int]) -> None:
        """Continue behind what has been acknowledged, and skip what was written but not counted.

        A partition's records were written in the order of the source, so those found there are the next ones due.

        Raises:
            SimError: A topic is shorter than what was acknowledged.
        """
        self.acknowledged, self.offsets = acknowledged, dict(offsets)
        with offsets_client(self._kafka) as consumer:
            for place, end in consumer.end_offsets(self._places()).items():
                begin = offsets.get(f"{place.topic}/{place.partition}", 0)
                if end < begin:
                    raise SimError(
                        f"Topic {place.topic} ends at offset {end} in partition {place.partition}, but the replay had "
                        f"written up to {begin}: the topic is another one; begin again by --restart."
                    )
                if end > begin:
                    self._there[place.topic, place.partition] = deque(_read(consumer, place, begin, end))

    def _earlier(self, topic: str, partition: int, event: SourceEvent) -> Written | None:
        """Return the record if Kafka has it; behind the first that it lacks, it has none."""
        there = self._there.get((topic, partition))
        while there:
            record = there.popleft()
            if record.key == event.key and record.value == event.value:
                return record
        self._there.pop((topic, partition), None)
        return None

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for topic in self._topics.values() for p in range(self.partitions)]


def _read(consumer: Any, place: TopicPartition, begin: int, end: int) -> Iterator[Written]:
    consumer.assign([place])
    consumer.seek(place, begin)
    while consumer.position(place) < end:
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                if record.offset < end:
                    replayed = TimeBounds().replayed_ms(record)
                    ts_ms = record.timestamp if replayed is None else replayed
                    yield Written(place.topic, place.partition, record.offset, record.key, record.value, ts_ms)
