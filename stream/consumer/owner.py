"""The state that consumption is part of: whoever has it says where consumption begins."""

from collections.abc import Collection
from typing import Protocol

from stream.consumer.progress import TopicPartition


class StateOwner(Protocol):
    """The state that consumption is part of: it knows which offsets it has seen."""

    async def open(self, topic: str, partition: int) -> int | None:
        """Open the state of a partition that is ours now; give the next offset wanted, None for the log's earliest.

        It is called again for partitions that are open, and may wait (OPEN_S) for a former owner to let go.
        """

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        """Learn which offset the answer None came to."""

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Let go of partitions; none of their batches is being handled any more."""

    async def close(self) -> None:
        """Let go of everything; nothing more will be handled."""
