"""`hstu forget USER`: a record in the log that erases a user, in every store and in every store built from the log.

The record goes to every partition of `attributes`, since a user may lie where murmur2 would not put it; where the user
is unknown it only clears what waited off the disk.
"""

import time
from typing import Final

import msgspec

from stream.config import StreamSettings
from stream.errors import HstuError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.permissions import check_permissions
from stream.kafka.topics import topic_name, verify_topics
from stream.operations.records import read_last
from stream.operations.user_id import encode_user
from stream.schema.dead_letters import RefusedError
from stream.schema.events import decode_event
from stream.schema.ids import MAX_ID_BYTES
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import SourceTopic

_LOOKED_AT: Final = 20  # of the last records of each partition: late ones may have come after the end


def forget_user(kafka: Kafka, settings: StreamSettings, user: str, ts_ms: int) -> int:
    """Write the record, and return once Kafka has it in all partitions; return their number.

    Args:
        kafka: The Kafka.
        settings: Name the topic.
        user: The user's id.
        ts_ms: Event time up to which the user is erased.

    Raises:
        HstuError: Workers would refuse the record, for its id, its time or the log's end; nothing was sent.
        BrokerError: Kafka does not answer, refuses, or lacks the topic.
    """
    key = encode_user(user)
    value = msgspec.json.encode({"user_id": user, "forget": True, "ts": ts_ms})
    _refuse_invalid(settings, value)
    verify_topics(kafka, settings, [SourceTopic.ATTRIBUTES.topic])
    topic = topic_name(settings, SourceTopic.ATTRIBUTES.topic)
    check_permissions(kafka, reads=[topic], writes=[topic])
    _refuse_ended(kafka, settings, topic)
    with clients.refusals(kafka):
        producer = clients.producer(kafka, acks="all")
        try:
            for partition in range(settings.partitions):
                producer.send(topic, value, key=key, partition=partition).get()
        finally:
            producer.close()
    return settings.partitions


def _refuse_ended(kafka: Kafka, settings: StreamSettings, topic: str) -> None:
    """Refuse where a replay has ended the log: whatever comes after is late."""
    for record in read_last(kafka, [topic], _LOOKED_AT):
        if settings.replays and settings.time_bounds.replayed_ms(record) is not None and _is_end(record.value):
            raise HstuError(
                f"Nothing was sent: a replay has ended the log of {topic}, and workers would refuse the record as "
                "late. Leave the user out of what is replayed, and replay it under another stream.topic_prefix and "
                "data_dir."
            )


def _is_end(value: bytes | None) -> bool:
    try:
        return decode_event(SourceTopic.ATTRIBUTES, value, max_slate=None, now_ms=None) == END_OF_TIME_MS
    except RefusedError:
        return False


def _refuse_invalid(settings: StreamSettings, value: bytes) -> None:
    """Refuse here what workers would make a dead-letter: nobody who asked would hear of it there."""
    future_ms = settings.time_bounds.future_ms
    latest_ms = int(time.time() * 1000) + future_ms if future_ms else None
    try:
        decode_event(SourceTopic.ATTRIBUTES, value, max_slate=None, now_ms=latest_ms)
    except RefusedError as error:
        raise HstuError(
            f"Nothing was sent, for workers would refuse it ({error.reason}): {error.detail}. A user's id has 1 to "
            f"{MAX_ID_BYTES} bytes; --until is a time from 1970 on, at most stream.future_s ({settings.future_s:g} s) "
            "beyond now and before 2200."
        ) from None
