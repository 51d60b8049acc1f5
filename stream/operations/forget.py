"""`hstu forget USER`: a record in the log that erases a user, in every store and in every store built from the log.

The record goes to every partition of `attributes`, since a user may lie where murmur2 would not put it; where the user
is unknown it does nothing.
"""

import msgspec

from stream.config import StreamSettings
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import topic_name, verify_topics
from stream.schema.topics import SourceTopic


def forget_user(kafka: Kafka, settings: StreamSettings, user: str, ts_ms: int) -> int:
    """Write the record, and return once Kafka has it in all partitions; return their number.

    Args:
        kafka: The Kafka.
        settings: Name the topic.
        user: The user's id.
        ts_ms: Event time up to which the user is erased.

    Raises:
        BrokerError: Kafka does not answer, refuses, or lacks the topic.
    """
    verify_topics(kafka, settings, [SourceTopic.ATTRIBUTES.topic])
    topic = topic_name(settings, SourceTopic.ATTRIBUTES.topic)
    value = msgspec.json.encode({"user_id": user, "forget": True, "ts": ts_ms})
    with clients.refusals(kafka):
        producer = clients.producer(kafka, acks="all")
        try:
            for partition in range(settings.partitions):
                producer.send(topic, value, key=user.encode(), partition=partition).get()
        finally:
            producer.close()
    return settings.partitions
