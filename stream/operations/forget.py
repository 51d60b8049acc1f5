"""`hstu forget USER`: a record in the log that erases a user, in every store and in every store built from the log.

The record goes to every partition of `attributes`, since a user may lie where murmur2 would not put it; where the user
is unknown it only clears what waited off the disk.
"""

import time
from datetime import UTC, datetime

import msgspec

from stream.config import StreamSettings
from stream.errors import HstuError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.permissions import check_permissions
from stream.kafka.topics import topic_name, verify_topics
from stream.operations.records import topic_clocks
from stream.operations.tables import when
from stream.operations.user_id import encode_user
from stream.schema.dead_letters import RefusedError
from stream.schema.events import decode_event
from stream.schema.ids import MAX_ID_BYTES
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import SourceTopic


def forget_user(kafka: Kafka, settings: StreamSettings, user: str, ts_ms: int) -> int:
    """Write the record, and return once Kafka has it in all partitions; return their number.

    Args:
        kafka: The Kafka.
        settings: Name the topic.
        user: The user's id.
        ts_ms: Event time up to which the user is erased.

    Raises:
        HstuError: Workers would refuse the record, for its id, its time, or as late in a partition; nothing was sent.
        BrokerError: Kafka does not answer, refuses, or lacks the topic.
    """
    key = encode_user(user)
    value = msgspec.json.encode({"user_id": user, "forget": True, "ts": ts_ms})
    _refuse_invalid(settings, value)
    verify_topics(kafka, settings, [SourceTopic.ATTRIBUTES.topic])
    topic = topic_name(settings, SourceTopic.ATTRIBUTES.topic)
    check_permissions(kafka, reads=[topic], writes=[topic])
    _refuse_late(kafka, settings, ts_ms)
    with clients.refusals(kafka):
        producer = clients.producer(kafka, acks="all")
        try:
            for partition in range(settings.partitions):
                producer.send(topic, value, key=key, partition=partition).get()
        finally:
            producer.close()
    return settings.partitions


def _refuse_late(kafka: Kafka, settings: StreamSettings, ts_ms: int) -> None:
    """Refuse what workers would refuse in a partition whose event time has passed it, and in one that has ended."""
    topic = topic_name(settings, SourceTopic.ATTRIBUTES.topic)
    clocks = topic_clocks(kafka, settings, SourceTopic.ATTRIBUTES)
    reached_ms = max(clocks.values(), default=0)
    if reached_ms >= END_OF_TIME_MS:
        raise HstuError(
            f"Nothing was sent: a replay has ended the log of {topic}, and workers would refuse the record as "
            "late. Leave the user out of what is replayed, and replay it under another stream.topic_prefix and "
            "data_dir."
        )
    late = [number for number, at_ms in clocks.items() if ts_ms < at_ms - 1000 * settings.lateness_s]
    if late:
        raise HstuError(
            f"Nothing was sent: workers would refuse the record as late, and forget nobody, in {len(late)} of "
            f"{settings.partitions} partitions: event time in {topic} is at {when(reached_ms)}, more than "
            f"stream.lateness_s ({settings.lateness_s:g} s) beyond {when(ts_ms)}. Give --until {_second(reached_ms)} "
            "(UTC) or later; without --until it is now, by this machine's clock."
        )


def _second(ts_ms: int) -> str:
    """Return a time as --until takes it, rounded up."""
    return datetime.fromtimestamp(-(-ts_ms // 1000), UTC).strftime("%Y-%m-%dT%H:%M:%S")


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
