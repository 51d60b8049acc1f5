"""Topics in a real Kafka: made once, alike, and refused where they differ."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stream.config import StreamSettings
from stream.errors import BrokerError
from stream.kafka import clients, topics
from stream.kafka.connection import Kafka
from stream.kafka.topics import EXAMPLE_BYTES, TopicState, count_partitions, create_topics, list_topics, verify_topics
from stream.schema.topics import ALL, EVENTS, EXAMPLES, ITEMS
from tests.kafka import KafkaForTests


def settings(topic_prefix: str, partitions: int = 2, replication: int = 1) -> StreamSettings:
    return StreamSettings(topic_prefix=topic_prefix, partitions=partitions, replication=replication)


def make(bootstrap: str, name: str, partitions: int) -> None:
    """Make a topic as an operator does, by other means."""
    with clients.admin_client(Kafka(bootstrap), 10) as admin:
        admin.create_topics([clients.NewTopic(name, partitions, 1)])


def test_topics_are_created_once(kafka: KafkaForTests, topic_prefix: str) -> None:
    """The first call makes all of them, alike; the second finds them; they are there to be used."""
    made = settings(topic_prefix)
    assert create_topics(Kafka(kafka.bootstrap), made) == {topic_prefix + topic: "created" for topic in ALL}
    assert create_topics(Kafka(kafka.bootstrap), made) == {topic_prefix + topic: "exists" for topic in ALL}
    verify_topics(Kafka(kafka.bootstrap), made)
    assert list_topics(Kafka(kafka.bootstrap), made) == {topic_prefix + topic: TopicState(2, 0) for topic in ALL}


def test_partitions_without_a_leader_are_waited_for_and_not_called_missing(
    kafka: KafkaForTests, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that comes back has none for a moment: a worker that was started then ended, and asked for topics."""
    made = settings(topic_prefix)
    create_topics(Kafka(kafka.bootstrap), made)
    leaders, calls = topics._leaders, []

    def late(admin: Any, names: Iterable[str]) -> dict[str, list[int]]:
        calls.append(1)
        found = leaders(admin, names)
        return found if 2 < len(calls) < 4 else {name: [-1] * len(each) for name, each in found.items()}

    monkeypatch.setattr(topics, "_leaders", late)
    verify_topics(Kafka(kafka.bootstrap), made)
    assert len(calls) == 3
    with pytest.raises(BrokerError, match=r"Partitions of .* have no leader, since their brokers are down"):
        verify_topics(Kafka(kafka.bootstrap), made, timeout_s=2)


def test_many_may_create_topics_at_once(kafka: KafkaForTests, topic_prefix: str) -> None:
    """Processes that start together do not disturb one another."""
    made = settings(topic_prefix)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: create_topics(Kafka(kafka.bootstrap), made), range(4)))
    assert all(result.keys() == {topic_prefix + topic for topic in ALL} for result in results)
    verify_topics(Kafka(kafka.bootstrap), made)


def test_items_alone_are_compacted(kafka: KafkaForTests, topic_prefix: str) -> None:
    """Kafka keeps the last record of each item; of events it keeps every record."""
    create_topics(Kafka(kafka.bootstrap), settings(topic_prefix))
    policies = {topic: config(kafka.bootstrap, topic_prefix + topic, "cleanup.policy") for topic in ALL}
    assert policies == {topic: "compact" if topic == ITEMS else "delete" for topic in ALL}


def test_tombstones_of_items_stay(kafka: KafkaForTests, topic_prefix: str) -> None:
    """A trainer that starts in a year still learns that an item is withdrawn; Kafka's default is a day."""
    create_topics(Kafka(kafka.bootstrap), settings(topic_prefix))
    year_ms = 365 * 86_400_000
    assert int(config(kafka.bootstrap, topic_prefix + ITEMS, "delete.retention.ms")) >= 100 * year_ms


def test_examples_may_be_as_long_as_the_settings_allow(kafka: KafkaForTests, topic_prefix: str) -> None:
    """The topic takes a record of almost 16 MiB, and a plain consumer reads it."""
    from kafka import KafkaConsumer, KafkaProducer

    create_topics(Kafka(kafka.bootstrap), settings(topic_prefix))
    topic, value = topic_prefix + EXAMPLES, os.urandom(EXAMPLE_BYTES - 4096)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, max_request_size=EXAMPLE_BYTES)
    producer.send(topic, value, partition=0).get(30)
    producer.close()
    consumer = KafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    assert next(consumer).value == value
    consumer.close()


def config(bootstrap: str, topic: str, name: str) -> str:
    from kafka.admin import ConfigResource, ConfigResourceType

    with clients.admin_client(Kafka(bootstrap), 10) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: None})
        described = admin.describe_configs([resource], config_filter="all")
    value: str = described["topic"][topic][name]["value"]
    return value


def test_another_number_of_partitions_is_refused(kafka: KafkaForTests, topic_prefix: str) -> None:
    """The sentence names the topic and both numbers, and no topic is made beside it."""
    make(kafka.bootstrap, topic_prefix + "actions", 3)
    with pytest.raises(
        BrokerError, match=rf"topic {topic_prefix}actions has 3 partitions, but stream.partitions says 2"
    ):
        create_topics(Kafka(kafka.bootstrap), settings(topic_prefix))
    assert [name for name, state in list_topics(Kafka(kafka.bootstrap), settings(topic_prefix)).items() if state] == [
        topic_prefix + "actions"
    ]


def test_missing_topics_are_named(kafka: KafkaForTests, topic_prefix: str) -> None:
    """Only what a verb needs is asked for, all that is missing is named, and the command that makes them."""
    make(kafka.bootstrap, topic_prefix + "impressions", 2)
    names = rf"{topic_prefix}actions, {topic_prefix}attributes"
    with pytest.raises(
        BrokerError, match=rf"Kafka at {kafka.bootstrap} lacks the topics {names}; run hstu topics create"
    ):
        verify_topics(Kafka(kafka.bootstrap), settings(topic_prefix), EVENTS)
    verify_topics(Kafka(kafka.bootstrap), settings(topic_prefix), ["impressions"])


def test_unequal_topics_are_named_with_their_counts(kafka: KafkaForTests, topic_prefix: str) -> None:
    """Topics that differ among themselves are told apart from settings that differ from all of them."""
    make(kafka.bootstrap, topic_prefix + EXAMPLES, 2)
    make(kafka.bootstrap, topic_prefix + ITEMS, 3)
    counts = rf"{topic_prefix}examples has 2, {topic_prefix}items has 3"
    with pytest.raises(
        BrokerError, match=rf"the same number of partitions, but {counts}\. .*nothing has to be deleted"
    ):
        verify_topics(Kafka(kafka.bootstrap), settings(topic_prefix), [EXAMPLES, ITEMS])
    with pytest.raises(BrokerError, match=r"items has 3 partitions, but stream.partitions says 2; set it to 3"):
        verify_topics(Kafka(kafka.bootstrap), settings(topic_prefix), [ITEMS])


def test_what_kafka_refuses_is_a_sentence(kafka: KafkaForTests, topic_prefix: str) -> None:
    """Too many replicas, a name that Kafka does not take: told with Kafka's reason and the setting to change."""
    with pytest.raises(
        BrokerError, match=r"2 partitions and 99 replicas: InvalidReplicationFactor.*change stream.partitions"
    ):
        create_topics(Kafka(kafka.bootstrap), settings(topic_prefix, replication=99))
    with pytest.raises(BrokerError, match=r"Kafka refused to make the topic no good-impressions.*InvalidTopic"):
        create_topics(Kafka(kafka.bootstrap), settings("no good-"))


def test_messages_are_counted(kafka: KafkaForTests, topic_prefix: str) -> None:
    """The list shows how many messages each topic holds, and which topics are missing."""
    from kafka import KafkaProducer

    name = topic_prefix + "actions"
    make(kafka.bootstrap, name, 2)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")
    for future in [producer.send(name, b"{}", partition=i % 2) for i in range(5)]:
        future.get(timeout=30)
    producer.close()
    listed = list_topics(Kafka(kafka.bootstrap), settings(topic_prefix))
    assert listed.pop(name) == TopicState(2, 5)
    assert set(listed.values()) == {None}


def test_partitions_are_counted(kafka: KafkaForTests, topic_prefix: str) -> None:
    """Topics that do not exist are left out; where no Kafka answers the error says where and for how long."""
    name = topic_prefix + "actions"
    make(kafka.bootstrap, name, 2)
    assert count_partitions(Kafka(kafka.bootstrap), [name, "no-such-topic"]) == {name: 2}
    with pytest.raises(BrokerError, match=r"No Kafka answered at 127.0.0.1:1 within 0.3 s"):
        count_partitions(Kafka("127.0.0.1:1"), [name], timeout_s=0.3)
