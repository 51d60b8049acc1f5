"""Batches of records on their way from the agents, in the event loop, to the training thread; of bounded size."""

import asyncio
from collections.abc import Sequence

from model.trainer.merge import Topic, size_of
from stream.example import Record

PartitionId = tuple[Topic, int]  # topic by our name for it, unlike transport.TopicPartition, and partition
Batch = tuple[PartitionId, Sequence[Record]]


class RecordBuffer:
    """A queue of batches that is taken out whole.

    Args:
        limit: Bytes (merge.size_of) above which `put` waits.
    """

    def __init__(self, limit: int) -> None:
        self.arrived = asyncio.Event()  # set by each batch; the reader clears it before it waits
        self._limit = limit
        self._batches: list[Batch] = []
        self._records = self._bytes = 0
        self._taken = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return self._records

    async def put(self, partition: PartitionId, records: Sequence[Record]) -> None:
        """Append a batch, once there is room or the buffer is closed."""
        while self._bytes >= self._limit and not self._closed:
            self._taken.clear()
            await self._taken.wait()
        self._batches.append((partition, records))
        self._records += len(records)
        self._bytes += sum(map(size_of, records))
        self.arrived.set()

    def take(self) -> list[Batch]:
        """Return all batches in the order they came, and empty the buffer."""
        batches, self._batches = self._batches, []
        self._records = self._bytes = 0
        self._taken.set()
        return batches

    def partitions(self) -> set[PartitionId]:
        """Return the partitions that have a batch here."""
        return {partition for partition, _ in self._batches}

    def close(self) -> None:
        """End the waiting of `put`, now and later."""
        self._closed = True
        self._taken.set()
