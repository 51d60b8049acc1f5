"""The partitions that this worker owns now: their stores are open, their outboxes are on the way to Kafka.

    assigned ─► open (waiting for a former owner) ─► handle … ─► revoked: outbox sent, store closed
                                                       └─► outbox ─► Kafka's acknowledgement ─► Outbox.sent

Sending goes on beside handling, one sender a partition, in the outbox's order. What a crash sends twice is known by its
serial. A producer that cannot deliver ends the worker; the outbox keeps what it had. Where the watermark leaps over
many waiting events they are joined in turns, each sent before the next: neither a commit nor an outbox is huge.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from stream.config import StreamSettings
from stream.errors import BrokerError, StoreBusyError
from stream.join.partition import Partition
from stream.schema.topics import EXAMPLES, SourceTopic
from stream.store.layout import Outgoing
from stream.store.rocksdb import open_store, partition_path
from stream.transport import OPEN_S, Record, TopicPartition

_log = logging.getLogger("hstu.worker")

_OUTBOX_RECORDS: Final = 5000  # handling waits while more than these wait for Kafka
_TURN_TOKENS: Final = 1_000_000  # in the examples of one commit, about 25 MB
_SILENT: Final = 5  # times as many events may wait for a source that is at its end
_VALUE_BYTES: Final = 512 << 10  # a dead-letter with more would not fit into Kafka's 1 MiB with its headers …
_KEY_BYTES: Final = 256 << 10  # … nor would one with a longer key …
_CUT_BYTES: Final = 64 << 10  # … each is cut to this
_GOODBYE_S: Final = 10.0  # for the outbox when a partition is let go; what is left is sent by the next owner


class AssignedPartition:
    """One partition and its sender."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.idle: frozenset[SourceTopic] = frozenset()  # sources that hold the others back no longer
        self.sending: asyncio.Task[None] | None = None

    def ahead(self, waiting_events: int, lag: Callable[[SourceTopic], int | None]) -> set[SourceTopic]:
        """Give the sources to poll no more for now: too many events wait, for a source that is behind these.

        That source is never among them. When it brings records, or has been silent for long enough to be idle, the
        watermark moves, and they are polled again: nothing that was not polled could have moved it. While it is at its
        end more events may wait, for queries show them.
        """
        high_ms = {source: self.partition.high_ms(source) for source in SourceTopic if source not in self.idle}
        if self.partition.waiting <= waiting_events or not high_ms:
            return set()
        behind = min(high_ms, key=lambda source: high_ms[source])
        if not lag(behind) and self.partition.waiting <= _SILENT * waiting_events:
            return set()
        return {source for source in high_ms if high_ms[source] > high_ms[behind]}


class AssignedPartitions:
    """The owner (transport.py) of the worker's consumption.

    Args:
        settings: shared by all workers.
        data_dir: holds the stores.
        producer: started, idempotent.
        fail: ends the worker with an error.
    """

    def __init__(
        self,
        settings: StreamSettings,
        data_dir: Path,
        producer: AIOKafkaProducer,
        fail: Callable[[Exception], None],
    ) -> None:
        self._settings, self._data_dir, self._producer, self._fail = settings, data_dir, producer, fail
        self._owned: dict[int, AssignedPartition] = {}
        self._sources = {settings.topic_prefix + source.topic: source for source in SourceTopic}

    def __iter__(self) -> Iterator[AssignedPartition]:
        return iter(list(self._owned.values()))

    def __getitem__(self, partition: int) -> AssignedPartition:
        return self._owned[partition]

    def all(self) -> list[Partition]:
        """Give the cores of all partitions."""
        return [owned.partition for owned in self]

    async def open(self, topic: str, partition: int) -> int | None:
        """Give the next offset that the partition's store wants of a source; opens it, once a former owner lets go.

        Raises:
            StoreBusyError: another worker keeps it open.
        StoreError: it cannot be used.
        """
        if partition not in self._owned:
            store = await _open_patiently(partition_path(self._data_dir, partition))
            self._owned[partition] = AssignedPartition(Partition(store, partition, self._settings, _now_ms))
            _log.info("Partition %d is ours", partition)
            self._send_soon(self._owned[partition])
        ours = self._owned[partition].partition
        offset = ours.next_offsets[self._sources[topic]]
        return None if ours.fresh and not offset else offset

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        """Tell a new store where a source's log begins."""
        self._owned[partition].partition.start_at(self._sources[topic], offset)

    async def handle(self, source: SourceTopic, partition: int, records: Sequence[Record]) -> None:
        """Commit a batch, and let what it gave be sent."""
        owned = self._owned[partition]
        if owned.sending and (owned.partition.behind or len(owned.partition.outbox) > _OUTBOX_RECORDS):
            await asyncio.wait([owned.sending])
        owned.idle -= {source}
        owned.partition.handle(source, records, owned.idle, _TURN_TOKENS)
        self._send_soon(owned)

    def advance(self, idle: Collection[TopicPartition]) -> None:
        """Let sources that have been at their end for long hold the others back no longer."""
        for number, owned in self._owned.items():
            now = frozenset(source for topic, source in self._sources.items() if (topic, number) in idle)
            if now != owned.idle:
                owned.idle = now
                owned.partition.advance(now, _TURN_TOKENS)
                self._send_soon(owned)

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Send what is left, and close the stores."""
        gone = [owned for number in {number for _, number in partitions} if (owned := self._owned.pop(number, None))]
        sending = [owned.sending for owned in gone if owned.sending]
        if sending:
            await asyncio.wait(sending, timeout=_GOODBYE_S)
        for owned in gone:
            if owned.sending:
                owned.sending.cancel()
            owned.partition.close()

    async def close(self) -> None:
        """Let go of all."""
        await self.revoked([("", number) for number in self._owned])

    def _send_soon(self, owned: AssignedPartition) -> None:
        if owned.sending is None or owned.sending.done():
            owned.sending = asyncio.create_task(self._send(owned))

    async def _send(self, owned: AssignedPartition) -> None:
        """Send the outbox, and join on where the last commit stopped, until neither has more."""
        partition = owned.partition
        try:
            while len(partition.outbox) or self._joins_on(owned):
                await self._send_all(partition)
                if self._joins_on(owned):
                    partition.advance(owned.idle, _TURN_TOKENS)
        except MessageSizeTooLargeError:
            self._fail(_too_large(partition, self._settings.topic_prefix))
        except KafkaError as error:
            self._fail(BrokerError(f"Kafka did not take records of partition {partition.number}: {error!r}; restart."))
        except Exception as error:
            self._fail(error)

    def _joins_on(self, owned: AssignedPartition) -> bool:
        return owned.partition.behind and self._owned.get(owned.partition.number) is owned

    async def _send_all(self, partition: Partition) -> None:
        if waiting := partition.outbox.unsent():
            examples = [outgoing for outgoing in waiting if outgoing.topic == EXAMPLES]
            arrivals = await self._send_examples(partition.number, examples)
            arrivals += [await self._send_letter(outgoing) for outgoing in waiting if outgoing.topic != EXAMPLES]
            await asyncio.gather(*arrivals)
            partition.outbox.sent(waiting[-1].number)

    async def _send_examples(self, number: int, examples: Sequence[Outgoing]) -> list[Any]:
        """Hand over examples and heartbeats in whole batches: one by one costs far more of the CPU."""
        topic, arrivals = self._settings.topic_prefix + EXAMPLES, []
        batch = self._producer.create_batch()
        for outgoing in examples:
            if batch.append(key=outgoing.key, value=outgoing.value, timestamp=None) is None:
                arrivals.append(await self._producer.send_batch(batch, topic, partition=number))
                batch = self._producer.create_batch()
                batch.append(key=outgoing.key, value=outgoing.value, timestamp=None)
        if examples:
            arrivals.append(await self._producer.send_batch(batch, topic, partition=number))
        return arrivals

    async def _send_letter(self, letter: Outgoing) -> Any:
        key, value, headers = letter.key, letter.value, list(letter.headers)
        if len(value) > _VALUE_BYTES:
            headers.append(("cut-from-bytes", str(len(value)).encode()))
            value = value[:_CUT_BYTES]
        if key is not None and len(key) > _KEY_BYTES:
            headers.append(("key-cut-from-bytes", str(len(key)).encode()))
            key = key[:_CUT_BYTES]
        return await self._producer.send(self._settings.topic_prefix + letter.topic, value, key=key, headers=headers)


def _too_large(partition: Partition, prefix: str) -> BrokerError:
    sizes = {
        outgoing.topic: len(outgoing.value)
        for outgoing in sorted(partition.outbox.unsent(), key=lambda o: len(o.value))
    }
    longest = " and ".join(f"{prefix}{topic} (up to {size} bytes)" for topic, size in sizes.items())
    return BrokerError(
        f"Kafka refused a record of partition {partition.number} as too large. Records for {longest} wait: raise "
        "max.message.bytes of that topic, or message.max.bytes of the brokers, beyond this and start again; nothing is "
        "lost, for the outbox keeps them."
    )


def _now_ms() -> int:
    return int(time.time() * 1000)


async def _open_patiently(path: Path) -> Any:
    """Open a store, while a former owner that was just revoked, or killed, may still hold it."""
    deadline = time.monotonic() + OPEN_S
    while True:
        try:
            return open_store(path)
        except StoreBusyError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)
