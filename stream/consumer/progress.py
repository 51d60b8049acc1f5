"""Progress through Kafka's partitions: what has been polled, what has been handled, and that nothing lies between.

    next to poll ─► PollBatch (from `start` to `end`) ─► handler ─► next to handle

The batches of a partition form a chain from one seek to the next: each begins where the one before ended, so a batch
lost on its way to the handler is noticed by the next. Offsets that compaction or transactions leave out lie inside the
chain; offsets that retention deleted before we read them are refused. This module knows neither Kafka nor Faust.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from stream.errors import BrokerError, DeletedUnreadError, OtherLogError

IN_FLIGHT_BYTES: Final = 64 << 20  # polled and not handled, above which nothing is polled
WORKERS_WAY_ON: Final = (
    "stop the workers of this data directory, move its store/ aside, set stream.backup_url, if there is one, to a new "
    "place, and start them again: they read all that Kafka has now, and trainers go on by hstu train --name NEW "
    "--weights-from OLD (docs/recovery.md)."
)
TopicPartition = tuple[str, int]  # (topic, partition); what Faust and aiokafka use are subclasses of it


def size_of(record: Any) -> int:
    """Return the bytes of a record's key and value."""
    return len(record.key or b"") + len(record.value or b"")


class PartitionProgress:
    """Progress in one assigned partition since the last seek."""

    __slots__ = (
        "begun",
        "end",
        "end_s",
        "handled",
        "in_flight",
        "in_flight_bytes",
        "known",
        "last",
        "polled",
        "wanted",
    )

    def __init__(self, offset: int, end: int = 0, known: int | None = None, wanted: int = 0) -> None:
        self.begun = self.polled = self.handled = offset  # the first offset, the next to poll, the next to handle
        self.last = offset  # the offset after the last record handled: `handled` without what has no records
        self.end, self.end_s = end, time.monotonic()  # of the log, and when it was asked for
        self.in_flight = self.in_flight_bytes = 0  # records polled and not handled
        self.known = known  # offset of a record that was read before and must be the first of the next poll
        self.wanted = max(offset, wanted)  # the first offset of which nothing was read before

    def pass_over(self, offset: int) -> None:
        """Note that there is no record before an offset: ends of transactions are there, or what was aborted."""
        self.polled = self.handled = offset


class PollBatch:
    """The records of one partition that one poll brought; to Faust it looks like one ConsumerRecord."""

    timestamp_type = 0
    headers = ()
    key = checksum = None
    serialized_key_size = serialized_value_size = 0

    def __init__(self, progress: PartitionProgress, records: Sequence[Any]) -> None:
        last = records[-1]
        self.topic, self.partition, self.offset, self.timestamp = (
            last.topic,
            last.partition,
            last.offset,
            last.timestamp,
        )
        self.records = records
        self.bytes = sum(map(size_of, records))
        self.progress = progress
        self.start, self.end = progress.polled, last.offset + 1
        progress.polled = self.end
        progress.in_flight += len(records)
        progress.in_flight_bytes += self.bytes

    @property
    def value(self) -> "PollBatch":
        """The value of Faust's message: the batch itself."""
        return self


class Progress:
    """All assigned partitions.

    Args:
        in_flight_records: Polling stops while this many records, or IN_FLIGHT_BYTES, wait for their handlers.
    """

    def __init__(self, in_flight_records: int) -> None:
        self.in_flight_records = in_flight_records
        self.paused: set[TopicPartition] = set()
        self._partitions: dict[TopicPartition, PartitionProgress] = {}
        self._ends: dict[TopicPartition, int] = {}  # of what was handled since it was last taken
        self._changed = asyncio.Event()
        self._closed = False

    def __contains__(self, partition: TopicPartition) -> bool:
        return partition in self._partitions

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(list(self._partitions))

    def __getitem__(self, partition: TopicPartition) -> PartitionProgress:
        return self._partitions[partition]

    def get(self, partition: TopicPartition) -> PartitionProgress | None:
        """Return a partition's progress, None where it is not assigned."""
        return self._partitions.get(partition)

    def begin(
        self, partition: TopicPartition, offset: int, end: int = 0, known: int | None = None, wanted: int = 0
    ) -> None:
        """Begin again at an offset of a log that has this end now; batches polled before are void.

        Args:
            partition: The partition.
            offset: Where it begins.
            end: The offset after its last record.
            known: The offset of a record that was read before, if it begins with one.
            wanted: The offset behind all that was read before, if that is beyond `offset`.
        """
        self._partitions[partition] = PartitionProgress(offset, end, known, wanted)
        self._ends.pop(partition, None)

    def clear(self) -> None:
        """Forget all partitions: they are no longer assigned."""
        self._partitions.clear()
        self.paused.clear()

    def close(self) -> None:
        """Poll and handle nothing more."""
        self._closed = True
        self._changed.set()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop polling these; nothing that was polled is lost."""
        self.paused |= set(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Poll these again."""
        self.paused -= set(partitions)
        self._changed.set()

    async def pollable(self, active: Collection[TopicPartition], timeout_s: float) -> set[TopicPartition]:
        """Return the partitions to poll now; wait up to `timeout_s` until there is one, and room for its records."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            self._changed.clear()
            ready = (set(active) & self._partitions.keys()) - self.paused
            if ready and self._has_room() and not self._closed:
                return ready
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        return set()

    def _has_room(self) -> bool:
        waiting = self._partitions.values()
        return (
            sum(each.in_flight for each in waiting) < self.in_flight_records
            and sum(each.in_flight_bytes for each in waiting) < IN_FLIGHT_BYTES
        )

    def is_current(self, batch: PollBatch) -> bool:
        """Return whether to handle a batch: its partition is still assigned and has not been sought since the poll."""
        return not self._closed and self._partitions.get((batch.topic, batch.partition)) is batch.progress

    def note_ends(self, ends: Mapping[TopicPartition, int], asked_s: float) -> None:
        """Note where logs end, as it was asked for at a monotonic time."""
        for partition in ends.keys() & self._partitions.keys():
            progress = self._partitions[partition]
            progress.end, progress.end_s = max(progress.end, ends[partition]), asked_s

    def take_handled(self, partition: TopicPartition) -> int | None:
        """Return the end of what was handled since the last call, None for nothing; of one that has gone as well."""
        return self._ends.pop(partition, None)

    def handled(self, batch: PollBatch) -> None:
        """Note that a batch's handler has finished."""
        batch.progress.handled = batch.progress.last = self._ends[batch.topic, batch.partition] = batch.end
        batch.progress.in_flight -= len(batch.records)
        batch.progress.in_flight_bytes -= batch.bytes
        self._changed.set()


def refuse_dropped(batch: PollBatch) -> None:
    """Refuse a batch whose predecessor was never handled.

    Raises:
        BrokerError: Records before it were dropped between Kafka and us.
    """
    if batch.start != batch.progress.handled:
        raise BrokerError(
            f"Records {batch.progress.handled} to {batch.start - 1} of {batch.topic}[{batch.partition}] were lost "
            "between Kafka and the handler; start again: consumption goes on from the last record that was handled."
        )


def refuse_lost(partition: TopicPartition, wanted: int, first: int, end: int, way_on: str = WORKERS_WAY_ON) -> None:
    """Refuse to begin where the log no longer, or not yet, reaches.

    Args:
        partition: The log.
        wanted: The next offset that our state wants.
        first: The log's first offset.
        end: The offset after its last.
        way_on: The end of the sentence: how whoever wants it goes on without what is gone (StateOwner.way_on).

    Raises:
        DeletedUnreadError: Records were deleted before we read them.
        OtherLogError: This is another log than the one we read.
    """
    topic, number = partition
    if wanted < first:
        raise DeletedUnreadError(
            f"{topic}[{number}] begins at offset {first}, but this data directory has read it up to {wanted}: Kafka "
            f"has deleted {first - wanted} records unread. Raise the topic's retention; to go on without them, "
            f"{way_on}",
            f"{topic}[{number}] begins at offset {first}, and it has read up to {wanted}: Kafka has deleted "
            f"{first - wanted} records unread",
        )
    if wanted > end:
        raise OtherLogError(
            f"{topic}[{number}] ends at offset {end}, but this data directory has read it up to {wanted}: it is "
            "another Kafka or another stream.topic_prefix, the topic was made again, or Kafka has lost the end of its "
            f"log (a power cut). Point to the Kafka and the prefix of before; or {way_on}",
            f"{topic}[{number}] ends at offset {end}, and it has read up to {wanted}",
        )
