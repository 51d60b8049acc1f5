"""Progress through Kafka's partitions: what has been polled, what has been handled, and that nothing lies between.

    next to poll ─► Batch (from `start` to `end`) ─► handler ─► next to handle

A lane is one assigned partition from one seek to the next. Its batches form a chain: each begins where the one before
ended, so a batch lost on its way to the handler is noticed by the next. Offsets that compaction or transactions leave
out lie inside the chain; offsets that retention deleted before we read them are refused. No Kafka and no Faust in here.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from stream.errors import BrokerError

TopicPartition = tuple[str, int]  # (topic, partition); what Faust and aiokafka use are subclasses of it


class PartitionProgress:
    """Progress in one partition since the last seek."""

    __slots__ = ("end", "ended_at", "handled", "in_flight", "polled")

    def __init__(self, offset: int, end: int = 0) -> None:
        self.polled = self.handled = offset  # the next offset to poll, to handle
        self.end = end  # of the log, when it was sought
        self.in_flight = 0  # records polled and not handled
        self.ended_at: float | None = None  # since when at the end of the log, time.monotonic()


class PollBatch:
    """The records of one partition that one poll brought; to Faust it looks like one ConsumerRecord."""

    timestamp_type = 0
    headers = ()
    key = checksum = None
    serialized_key_size = serialized_value_size = 0

    def __init__(self, lane: PartitionProgress, records: Sequence[Any]) -> None:
        last = records[-1]
        self.topic, self.partition, self.offset, self.timestamp = (
            last.topic,
            last.partition,
            last.offset,
            last.timestamp,
        )
        self.records = records
        self.lane = lane
        self.start, self.end = lane.polled, last.offset + 1
        lane.polled = self.end
        lane.in_flight += len(records)

    @property
    def value(self) -> "PollBatch":
        """The value of Faust's message: the batch itself."""
        return self


class Progress:
    """All assigned partitions.

    Args:
        in_flight_records: polling stops while so many records wait for their handlers.
    """

    def __init__(self, in_flight_records: int) -> None:
        self.in_flight_records = in_flight_records
        self.paused: set[TopicPartition] = set()
        self._lanes: dict[TopicPartition, PartitionProgress] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def __contains__(self, partition: TopicPartition) -> bool:
        return partition in self._lanes

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(list(self._lanes))

    def __getitem__(self, partition: TopicPartition) -> PartitionProgress:
        return self._lanes[partition]

    def begin(self, partition: TopicPartition, offset: int, end: int = 0) -> None:
        """Begin anew at an offset of a log that has this end now; batches polled before are void."""
        self._lanes[partition] = PartitionProgress(offset, end)

    def clear(self) -> None:
        """Forget all: they are no longer ours."""
        self._lanes.clear()
        self.paused.clear()

    def close(self) -> None:
        """Nothing more is polled or handled."""
        self._closed = True
        self._changed.set()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Poll these no more; nothing that was polled is lost."""
        self.paused |= set(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Poll these again."""
        self.paused -= set(partitions)
        self._changed.set()

    async def pollable(self, active: Collection[TopicPartition], timeout_s: float) -> set[TopicPartition]:
        """Give the partitions to poll now; wait until there is one, and room for what it brings, but not for long."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            self._changed.clear()
            room = sum(lane.in_flight for lane in self._lanes.values()) < self.in_flight_records
            ready = set(active) - self.paused
            if ready and room and not self._closed:
                return ready
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        return set()

    def is_current(self, batch: PollBatch) -> bool:
        """Tell whether a batch is to be handled: its partition is still ours and was not sought anew since the poll."""
        return not self._closed and self._lanes.get((batch.topic, batch.partition)) is batch.lane

    def handled(self, batch: PollBatch) -> None:
        """Note that a batch's handler has finished."""
        batch.lane.handled = batch.end
        batch.lane.in_flight -= len(batch.records)
        batch.lane.ended_at = None
        self._changed.set()

    def note_end(self, partition: TopicPartition, at_end: bool) -> None:
        """Note whether everything there is has been handled, as of now."""
        if (lane := self._lanes.get(partition)) is not None:
            lane.ended_at = (lane.ended_at or time.monotonic()) if at_end else None

    def ended_for(self, seconds: float) -> set[TopicPartition]:
        """Give the partitions that have been at their end for so long."""
        now = time.monotonic()
        return {tp for tp, lane in self._lanes.items() if lane.ended_at is not None and now - lane.ended_at >= seconds}


def refuse_dropped(batch: PollBatch) -> None:
    """Refuse a batch whose predecessor was never handled.

    Raises:
        BrokerError: records in front of it were dropped between Kafka and us.
    """
    if batch.start != batch.lane.handled:
        raise BrokerError(
            f"Records {batch.lane.handled} to {batch.start - 1} of {batch.topic}[{batch.partition}] were lost between "
            "Kafka and the handler; start again: consumption goes on from the last record that was handled."
        )


def refuse_lost(partition: TopicPartition, wanted: int, first: int, end: int) -> None:
    """Refuse to begin where the log no longer, or not yet, reaches.

    Args:
        partition: of the log.
        wanted: the next offset our state wants.
        first: the log's first offset.
        end: the offset after its last.

    Raises:
        BrokerError: records were deleted before we read them, or this is another log than the one we read.
    """
    topic, number = partition
    if wanted < first:
        raise BrokerError(
            f"{topic}[{number}] begins at offset {first}, but this data directory has read it up to {wanted}: Kafka "
            f"has deleted {first - wanted} records unread. Raise the topic's retention; to go on without them, start "
            "with a new data directory."
        )
    if wanted > end:
        raise BrokerError(
            f"{topic}[{number}] ends at offset {end}, but this data directory has read it up to {wanted}: it is "
            "another Kafka, or the topic was made anew. Point to the Kafka of before, or start with a new data "
            "directory."
        )
