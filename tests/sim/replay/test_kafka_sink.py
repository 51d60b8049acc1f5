"""The sink of a replay, against a real Kafka: what it counts, and what it finds of an earlier one."""

from collections.abc import Iterator

import pytest

from sim.errors import SimError
from sim.replay.kafka_sink import KafkaSink
from sim.sources.source import TOPICS, SourceEvent, action, heartbeats
from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from tests.kafka import KafkaForTests
from tests.topics import own_topics, written

EVENTS = [action(f"u{number % 5}", f"i{number}", "click", 1_000 + number) for number in range(40)]
TOMBSTONE = SourceEvent("items", b"i3", None, 2_000)


@pytest.fixture
def topics(kafka: KafkaForTests) -> StreamSettings:
    made = own_topics()
    create_topics(Kafka(kafka.bootstrap), made)
    return made


@pytest.fixture
def sink(kafka: KafkaForTests, topics: StreamSettings) -> Iterator[KafkaSink]:
    with KafkaSink(Kafka(kafka.bootstrap), topics.partitions, topics.topic_prefix) as out:
        yield out


def send(sink: KafkaSink, events: list[SourceEvent]) -> None:
    for event in events:
        sink.send(event)
    sink.flush()


def test_an_event_at_the_end_of_its_partition_is_found(sink: KafkaSink) -> None:
    """Behind heartbeats too; one of another user or time is not there."""
    assert not sink.holds(EVENTS[0])
    send(sink, [*EVENTS, *heartbeats(2_000, sink.partitions)])
    assert sink.holds(EVENTS[0])
    assert not sink.holds(action("u0", "i0", "click", 999))


def test_events_are_counted_and_heartbeats_are_not(sink: KafkaSink, topics: StreamSettings) -> None:
    """Offsets lie behind the last record of each partition, heartbeats included."""
    assert set(sink.ends().values()) == {0}
    send(sink, [*EVENTS, TOMBSTONE, *heartbeats(3_000, topics.partitions)])
    assert sink.acknowledged == len(EVENTS) + 1
    assert sink.offsets == sink.ends()
    assert sum(sink.offsets.values()) == len(EVENTS) + 1 + len(TOPICS) * topics.partitions
    assert set(sink.places()) == set(sink.offsets)


def test_what_is_there_is_not_written_again(kafka: KafkaForTests, sink: KafkaSink, topics: StreamSettings) -> None:
    """A new sink that knows of nothing finds the records of the one before it, and goes on behind them."""
    send(sink, EVENTS[:25])
    with KafkaSink(Kafka(kafka.bootstrap), topics.partitions, topics.topic_prefix) as later:
        later.resume(0, {})
        send(later, EVENTS)
        assert later.acknowledged == len(EVENTS)
        assert later.offsets == {place: end for place, end in later.ends().items() if end}
    found = [record for records in written(kafka.bootstrap, topics).values() for record in records]
    assert sorted(found) == sorted((event.key, event.value) for event in EVENTS)  # type: ignore[type-var]


def test_a_topic_that_is_too_short_is_refused(sink: KafkaSink, topics: StreamSettings) -> None:
    """It is another one than the replay has written to."""
    place = f"{topics.topic_prefix}actions/0"
    with pytest.raises(
        SimError, match=r"ends at offset 0 in partition 0, .*written up to 7: .*begin again by --restart"
    ):
        sink.resume(7, {place: 7})
