"""Are Kafka's logs those that a store has read? For `hstu doctor`, and before a backup takes a store's place."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Protocol

from stream.config import StreamSettings
from stream.consumer.progress import refuse_lost
from stream.consumer.read_log import ReadLog, other_log
from stream.errors import OtherLogError
from stream.kafka.connection import Kafka
from stream.kafka.topics import count_partitions, topic_name
from stream.operations.records import Find, Place, log_bounds, lookup
from stream.schema.topics import EVENTS
from stream.store import layout

Logs = Mapping[Place, tuple[int, int]]  # first offset of each source in a partition, and the one after the last


class Reached(Protocol):
    """How far a store has come: what it says of itself, or what a backup of it says."""

    @property
    def offsets(self) -> Sequence[int]:
        """The next offset of each source."""

    @property
    def logs(self) -> Sequence[layout.LogState]:
        """The last record read of each source."""


class RefuseUnlike(Protocol):
    """Compares Kafka's logs with those that a partition's store has read: `refuse_unlike_logs` of one Kafka."""

    def __call__(self, number: int, reached: Reached, *, goes_on: bool) -> None:
        """Raise OtherLogError where they are others."""


def refuse_unlike_logs(kafka: Kafka, settings: StreamSettings, number: int, reached: Reached, *, goes_on: bool) -> None:
    """Check that a partition's logs are those that a store has read.

    Args:
        kafka: The cluster.
        settings: Name the topics.
        number: The partition.
        reached: How far the store has come.
        goes_on: Whether a worker is to go on with it, so that Kafka must have what comes next.

    Raises:
        OtherLogError: Kafka's logs are others, or lack what comes next, or there are none.
        BrokerError: Kafka does not answer.
    """
    _refuse_missing(kafka, settings, number)
    logs = logs_of(kafka, settings, [number])[number]
    if goes_on:
        count_unread(logs, reached)
    with lookup(kafka) as find:
        refuse_other_logs(logs, reached, find)


def _refuse_missing(kafka: Kafka, settings: StreamSettings, number: int) -> None:
    names = [topic_name(settings, topic) for topic in EVENTS]
    counts = count_partitions(kafka, names)
    if missing := [name for name in names if counts.get(name, 0) <= number]:
        fact = f"{missing[0]}[{number}] does not exist in Kafka at {kafka}"
        raise OtherLogError(f"{fact}.", fact)


def logs_of(kafka: Kafka, settings: StreamSettings, numbers: Iterable[int]) -> dict[int, Logs]:
    """Return the logs of each partition, in the order of EVENTS."""
    names = [topic_name(settings, topic) for topic in EVENTS]
    places = {number: [(name, number) for name in names] for number in numbers}
    bounds = log_bounds(kafka, chain.from_iterable(places.values()))
    return {number: {place: bounds[place] for place in of} for number, of in places.items()}


def count_unread(logs: Logs, meta: Reached | None) -> int:
    """Return how many records a store has not read yet.

    Args:
        logs: Of its partition.
        meta: What the store says of itself, None while it is new.

    Raises:
        OtherLogError: Its next record is not in the log.
    """
    lag = 0
    for (place, (first, end)), offset in zip(logs.items(), meta.offsets if meta else [0] * len(logs), strict=True):
        if offset:
            refuse_lost(place, offset, first, end)
        lag += end - max(offset, first)
    return lag


def refuse_other_logs(logs: Logs, meta: Reached | None, find: Find) -> None:
    """Read the last record of each source once more, as a worker does, unless retention has deleted it.

    Raises:
        OtherLogError: It is another, or gone from the middle of the log, or the log ends before it.
    """
    for (place, (first, end)), state in zip(logs.items(), meta.logs, strict=True) if meta else ():
        if state.offset is None or state.offset < first:
            continue
        refuse_lost(place, state.offset + 1, first, end)
        if (record := find(place, state.offset)) is None:
            raise other_log(*place, state.offset)
        ReadLog(*place, state.offset, state.digest).refuse_other(record)
