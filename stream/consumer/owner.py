"""The protocol of the state that decides where consumption begins."""

from collections.abc import Collection
from typing import Protocol

from stream.consumer.progress import TopicPartition


class StateOwner(Protocol):
    """The state that consumption is part of: it knows which offsets it has seen."""

    @property
    def way_on(self) -> str:
        """How to go on where Kafka no longer has the log that was read; the end of a sentence that refuses it."""

    @property
    def compacted(self) -> Collection[str]:
        """Topics whose last record read may rightly be gone, since a newer one of its key has come."""

    async def open(self, topic: str, partition: int) -> int | None:
        """Open the state of an assigned partition; return the next offset wanted, None for the log's earliest.

        It is called again for partitions that are open.

        Raises:
            StoreBusyError: Another process has the state open; it is asked again until that is over. Other partitions
                go on meanwhile.
        """

    def last_read(self, topic: str, partition: int) -> int | None:
        """Return the offset of the last record that the state has seen, None before any.

        Consumption begins with that record, if Kafka still has it, so that the owner can compare the two.
        """

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        """Learn which offset the answer None led to."""

    def begun(self, topic: str, partition: int, known: int | None) -> None:
        """Learn that consumption begins, in a log whose ends may be those of the one that was read.

        Args:
            topic: The topic.
            partition: The partition.
            known: The offset of the record that comes once more; None where there is none to compare.
        """

    def doubted(self) -> None:
        """Learn that a broker was connected to anew: all logs are sought again, as they may be others now."""

    def passed(self, topic: str, partition: int, offset: int) -> None:
        """Learn that the log has no record between the last that was handled and an offset.

        Ends of transactions are there, which retention may remove with all before them: they are not missed then.
        """

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Close partitions; none of their batches is being handled any more."""

    async def close(self) -> None:
        """Close everything; nothing more will be handled."""
