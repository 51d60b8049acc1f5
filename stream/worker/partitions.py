"""The partitions assigned to this worker: their stores are open, and their outboxes are being sent to Kafka.

    assigned ─► open (waiting for a former owner) ─► handle … ─► revoked: outbox sent, store closed
                                                       └─► outbox ─► Kafka's acknowledgement ─► Outbox.sent

Nothing is sent before the logs of all sources are known to be those that the store has read, when it is opened and
whenever a broker was connected to anew: it would be heartbeats and examples of another system. While batches are
handled, one sender for each partition sends its outbox in order. What a crash sends twice is known by its serial. A
producer that cannot deliver ends the worker; the outbox keeps its records. Where the watermark moves past many waiting
events they are joined in turns, each sent before the next: neither a commit nor an outbox is huge. A store is opened
and read in a thread, since the event loop has Kafka to answer; but while RocksDB opens it, rocksdict holds Python's
lock.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from stream.config import StreamSettings
from stream.consumer.progress import WORKERS_WAY_ON
from stream.errors import BrokerError, StoreDamagedError
from stream.join.partition import Partition
from stream.kafka.reasons import reason
from stream.operations.store_logs import RefuseUnlike
from stream.schema.topics import EXAMPLES, SourceTopic
from stream.store.layout import Outgoing
from stream.store.rocksdb import RocksStore
from stream.transport import Record, TopicPartition, more_partitions
from stream.worker.backups import WorkerStores

_log = logging.getLogger("hstu.worker")

_OUTBOX_RECORDS: Final = 5000  # handling waits while more than these wait for Kafka, or more bytes than the next line
_OUTBOX_BYTES: Final = 32 << 20
_TURN_TOKENS: Final = 1_000_000  # in the examples of one commit, about 25 MB
_WAITING_BYTES: Final = 32 << 20  # of the records that wait in a partition; more count as too many events do
_SILENT: Final = 5  # this many times more events may wait for a source that is at its end
# A dead-letter with a longer value or key would not fit into Kafka's 1 MiB with its headers; each is truncated.
_VALUE_BYTES: Final = 512 << 10
_KEY_BYTES: Final = 256 << 10
_TRUNCATED_BYTES: Final = 64 << 10
_LAST_SEND_S: Final = 10.0  # for the outbox of a revoked partition; what is left is sent by the next owner


class AssignedPartition:
    """One partition, its store and its sender."""

    def __init__(self, partition: Partition, store: RocksStore) -> None:
        self.partition, self.store = partition, store
        self.closed = False
        self.cutting = asyncio.Lock()
        self.sending: asyncio.Task[None] | None = None
        self.unproven: set[SourceTopic] = set()
        """Sources whose log may still turn out to be another than the one that was read."""
        self.doubt()
        self._refused_before = Counter(partition.counters.dead_letters)

    @property
    def number(self) -> int:
        """The partition's number."""
        return self.partition.number

    def doubt(self) -> None:
        """Send nothing until all logs are found to be those that were read."""
        self.unproven = {source for source in SourceTopic if self.partition.last_read(source) is not None}

    async def close(self) -> None:
        """Close the store, once no checkpoint of it is being made."""
        async with self.cutting:
            self.closed = True
            self.partition.close()

    @property
    def refused(self) -> Counter[str]:
        """How many records were refused here since it was opened, by reason."""
        return Counter(self.partition.counters.dead_letters) - self._refused_before

    def ahead(self, waiting_events: int, lag: Callable[[SourceTopic], int | None]) -> set[SourceTopic]:
        """Return the sources to pause: too many events wait for a source that is behind these in event time.

        That source is never among them. When it brings records, or heartbeats because it has been silent, the watermark
        moves, and the others are polled again: their records could not have moved it. While it is at its end more
        events may wait, since queries show them.

        Args:
            waiting_events: How many events may wait, of _WAITING_BYTES in all.
            lag: Returns how many records of a source are not handled yet, None if that is unknown.
        """
        if not self._more_wait_than(waiting_events, _WAITING_BYTES):
            return set()
        clock_ms = {source: self.partition.clock_ms(source) for source in SourceTopic}
        behind = min(clock_ms, key=lambda source: clock_ms[source])
        if not lag(behind) and not self._more_wait_than(_SILENT * waiting_events, _SILENT * _WAITING_BYTES):
            return set()
        return {source for source in clock_ms if clock_ms[source] > clock_ms[behind]} - self.unproven

    def _more_wait_than(self, events: int, size: int) -> bool:
        return self.partition.waiting > events or self.partition.waiting_bytes > size


class AssignedPartitions:
    """The StateOwner of the worker's consumption.

    Args:
        settings: Shared by all workers.
        data_dir: Holds the stores.
        producer: Started and idempotent.
        fail: Ends the worker with an error.
        unlike: Raises OtherLogError where Kafka's logs are not those that a partition's store has read.
        cluster: Id of that Kafka, empty where it does not say it.
    """

    way_on: Final = WORKERS_WAY_ON
    compacted: Final = ()

    def __init__(
        self,
        settings: StreamSettings,
        data_dir: Path,
        producer: AIOKafkaProducer,
        fail: Callable[[Exception], None],
        unlike: RefuseUnlike,
        cluster: str = "",
    ) -> None:
        self._settings, self._producer, self._fail = settings, producer, fail
        self.stores = WorkerStores(settings, data_dir, unlike, cluster)
        self._assigned: dict[int, AssignedPartition] = {}
        self._warned = False
        self.opening = asyncio.Lock()
        self._closing: set[int] = set()
        self._named: set[int] = set()  # partitions whose opening was logged
        self._sources = {settings.topic_prefix + source.topic: source for source in SourceTopic}

    def __iter__(self) -> Iterator[AssignedPartition]:
        return iter(list(self._assigned.values()))

    def __getitem__(self, partition: int) -> AssignedPartition:
        return self._assigned[partition]

    def has(self, partition: int) -> bool:
        """Return whether a partition's store is open here."""
        return partition in self._assigned

    def holds(self, partition: int) -> bool:
        """Return whether this process has a partition's store open, or is opening or closing it."""
        return partition in self._assigned or partition in self._closing or self.stores.is_opening(partition)

    def proven(self) -> list[AssignedPartition]:
        """Return those whose logs are all known to be the ones that their stores have read."""
        return [assigned for assigned in self if not assigned.unproven]

    def all(self) -> list[Partition]:
        """Return the cores of all partitions."""
        return [assigned.partition for assigned in self]

    async def open(self, topic: str, partition: int) -> int | None:
        """Return the next offset that the partition's store wants of a source; open it unless it is open.

        Raises:
            BrokerError: The topic has got more partitions.
            StoreBusyError: Another worker keeps the store open, or it is being restored, or has to be.
            StoreError: The store cannot be used.
        """
        if partition >= self._settings.partitions:
            raise more_partitions(topic, self._settings.partitions, partition + 1)
        async with self.opening:
            if partition not in self._assigned:
                self._say_opening(partition)
                store = await self.stores.open(partition)
                try:
                    core = await asyncio.to_thread(self._core, store, partition)
                except StoreDamagedError as damage:
                    raise self.stores.replace(partition, damage) from None
                self._begin(core, store)
        core = self._assigned[partition].partition
        offset = core.next_offsets[self._sources[topic]]
        return None if core.fresh and not offset else offset

    def _say_opening(self, number: int) -> None:
        """Log once that a store is being opened: should RocksDB hang, this is the last that the process says."""
        if number not in self._named:
            _log.info("Opening the store of partition %d", number)
            self._named.add(number)

    def _core(self, store: RocksStore, number: int) -> Partition:
        try:
            return Partition(store, number, self._settings)
        except BaseException:
            store.close()
            raise

    def _begin(self, partition: Partition, store: RocksStore) -> None:
        assigned = self._assigned[partition.number] = AssignedPartition(partition, store)
        self._named.discard(partition.number)
        _log.info("Partition %d is ours", partition.number)
        self._warn_of_changes(partition.changed)
        self._send_soon(assigned)

    def _warn_of_changes(self, changed: Mapping[str, bool | int | float]) -> None:
        """Warn, once a worker, of settings that are others than those under which a store has decided so far."""
        if changed and not self._warned:
            self._warned = True
            before = ", ".join(f"{name} = {value}" for name, value in changed.items())
            _log.warning(
                "The store has been made under other settings: %s. It goes on under the new ones; should it have to be "
                "built again, these make other examples (docs/recovery.md, Other settings)",
                before,
            )

    def last_read(self, topic: str, partition: int) -> int | None:
        """Return the offset of the last record that the partition's store has read of a source, None before any."""
        return self._assigned[partition].partition.last_read(self._sources[topic])

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        """Set where a source's log begins, for a new store."""
        self._assigned[partition].partition.start_at(self._sources[topic], offset)

    def begun(self, topic: str, partition: int, known: int | None) -> None:
        """Trust a source whose last record Kafka has no more; another is trusted once that record has come again."""
        if known is None:
            self._trust(self._assigned[partition], self._sources[topic])

    def doubted(self) -> None:
        """Send nothing of any partition until all its logs are found to be those that were read, once more."""
        for assigned in self:
            assigned.doubt()

    def _trust(self, assigned: AssignedPartition, source: SourceTopic) -> None:
        assigned.unproven.discard(source)
        self._send_soon(assigned)

    def passed(self, topic: str, partition: int, offset: int) -> None:
        """Let the partition's store know that a source has no record before an offset that was not handled."""
        self._assigned[partition].partition.pass_over(self._sources[topic], offset)

    async def handle(self, source: SourceTopic, partition: int, records: Sequence[Record]) -> None:
        """Commit a batch, and let its results be sent."""
        assigned = self._assigned[partition]
        outbox = assigned.partition.outbox
        full = len(outbox) > _OUTBOX_RECORDS or outbox.bytes > _OUTBOX_BYTES
        if assigned.sending and (assigned.partition.behind or full):
            await asyncio.wait([assigned.sending])
        last = assigned.partition.last_read(source)
        assigned.partition.handle(source, records, _TURN_TOKENS)
        if last is None or (records and records[0].offset <= last):  # what was read last has come again, the same
            self._trust(assigned, source)
        else:
            self._send_soon(assigned)

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Send what is left, and close the stores."""
        self.stores.forget({number for _, number in partitions})
        numbers = {number for _, number in partitions} & self._assigned.keys()
        self._closing |= numbers
        gone = [self._assigned.pop(number) for number in numbers]
        sending = [assigned.sending for assigned in gone if assigned.sending]
        if sending:
            await asyncio.wait(sending, timeout=_LAST_SEND_S)
        for assigned in gone:
            if assigned.sending:
                assigned.sending.cancel()
            await assigned.close()
            self._closing.discard(assigned.number)

    async def close(self) -> None:
        """Close all partitions."""
        async with self.opening:
            await self.revoked([("", number) for number in self._assigned])
            await self.stores.close()

    def _send_soon(self, assigned: AssignedPartition) -> None:
        if not assigned.unproven and (assigned.sending is None or assigned.sending.done()):
            assigned.sending = asyncio.create_task(self._send(assigned))

    async def _send(self, assigned: AssignedPartition) -> None:
        """Send the outbox, and go on joining where the last commit stopped, until neither has more."""
        partition = assigned.partition
        try:
            while not assigned.unproven and (len(partition.outbox) or self._has_more_to_join(assigned)):
                await self._send_all(partition)
                if self._has_more_to_join(assigned):
                    partition.advance(_TURN_TOKENS)
        except MessageSizeTooLargeError:
            self._fail(_too_large(partition, self._settings.topic_prefix))
        except KafkaError as error:
            why = reason(error)
            self._fail(BrokerError(f"Kafka did not take records of partition {partition.number}: {why}; restart."))
        except Exception as error:
            self._fail(error)

    def _has_more_to_join(self, assigned: AssignedPartition) -> bool:
        return assigned.partition.behind and self._assigned.get(assigned.partition.number) is assigned

    async def _send_all(self, partition: Partition) -> None:
        if waiting := partition.outbox.unsent():
            examples = [outgoing for outgoing in waiting if outgoing.topic == EXAMPLES]
            arrivals = await self._send_examples(partition.number, examples)
            arrivals += [await self._send_letter(outgoing) for outgoing in waiting if outgoing.topic != EXAMPLES]
            await asyncio.gather(*arrivals)
            partition.outbox.sent(waiting[-1].number)

    async def _send_examples(self, number: int, examples: Sequence[Outgoing]) -> list[Any]:
        """Send examples and heartbeats in whole batches: one by one costs far more CPU time."""
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
            value = value[:_TRUNCATED_BYTES]
        if key is not None and len(key) > _KEY_BYTES:
            headers.append(("key-cut-from-bytes", str(len(key)).encode()))
            key = key[:_TRUNCATED_BYTES]
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
