"""Runs of a batch app within the test's process, and an owner that writes down what it sees."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

from stream.errors import StoreError
from stream.kafka.connection import Kafka
from stream.transport import BatchApp, TopicPartition, make_batch_app, serve
from tests.kafka_logs import Message, until


class Notebook:
    """An owner that writes down what it sees: the offsets handled, batch by batch."""

    way_on = "ask its author."
    compacted: Collection[str] = ()

    def __init__(self, wanted: dict[TopicPartition, int] | None = None) -> None:
        self.wanted = dict(wanted or {})
        self.known: dict[TopicPartition, int] = {}  # offsets of records read before, to be read once more
        self.batches: list[tuple[TopicPartition, list[int]]] = []
        self.passed_over: dict[TopicPartition, int] = {}
        self.without: set[TopicPartition] = set()  # begun without a record to compare
        self.started: dict[TopicPartition, int] = {}
        self.revoked_partitions: set[TopicPartition] = set()
        self.closed = False

    async def open(self, topic: str, partition: int) -> int | None:
        return self.wanted.get((topic, partition))

    def last_read(self, topic: str, partition: int) -> int | None:
        return self.known.get((topic, partition))

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        self.started[topic, partition] = offset

    def begun(self, topic: str, partition: int, known: int | None) -> None:
        if known is None:
            self.without.add((topic, partition))

    def doubted(self) -> None: ...

    def passed(self, topic: str, partition: int, offset: int) -> None:
        self.wanted[topic, partition] = self.passed_over[topic, partition] = offset

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.revoked_partitions |= set(partitions)

    async def close(self) -> None:
        self.closed = True

    def write(self, place: TopicPartition, records: Any) -> None:
        self.batches.append((place, [record.offset for record in records]))
        self.wanted[place] = records[-1].offset + 1

    def offsets(self, place: TopicPartition) -> list[int]:
        return [offset for where, offsets in self.batches if where == place for offset in offsets]

    @property
    def count(self) -> int:
        return sum(len(offsets) for _, offsets in self.batches)


class Run:
    """One run of an app over one topic, within the test's own process."""

    def __init__(self, bootstrap: str, topic: str, folder: Path, notebook: Notebook, **options: Any) -> None:
        self.notebook, self.topic, self.fails_at = notebook, topic, -1
        self.app: BatchApp = make_batch_app(
            f"{topic}group", Kafka(bootstrap), notebook, datadir=folder / "faust" / topic, **options
        )
        self.app.batches(topic)(self.handle)

    async def handle(self, partition: int, records: Any) -> None:
        if len(self.notebook.batches) == self.fails_at:
            raise StoreError("the disk is full")
        self.notebook.write((self.topic, partition), records)

    async def until(self, done: Callable[[], bool | Awaitable[bool]], what: str) -> None:
        """Run the app until something is the case."""
        serving = asyncio.create_task(serve(self.app))
        watching = asyncio.create_task(until(done, what))
        await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
        self.app.finish()
        await serving
        await watching


def records(count: int, partitions: int = 2) -> list[Message]:
    return [(p, b"key", b"value %d" % n, 0) for n in range(count) for p in range(partitions)]
