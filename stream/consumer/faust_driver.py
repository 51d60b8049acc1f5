"""The only module that touches Faust's internals: makes it poll batches, seek to our offsets, and start at once.

Its public settings are set in faust_settings.py; here are NoTables, one of them too, and internals, each held by a test
(of this module or of stream/transport.py) that fails if a new Faust changes it: in Consumer `perform_seek`, `_getmany`,
`_new_offset`, `_add_gap`, `_committed_offset`, `_thread`, `_new_consumer_thread`; in ConsumerThread
`_create_worker_consumer` and aiokafka's `commit`, `_fetch_max_wait_ms`, its fetcher's `MemoryRecords` and its client's
`_conns`; in NoTables `_update_channels`, `recovery`, and its `_wait`; the part of a ConsumerRecord that a PollBatch has
(progress.py); and `App._new_transport`, which brings Transport in; supervisors' `_stopped_set`.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, cast

import faust
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import ServiceThread, WorkerThread

from stream.consumer.faust_settings import Boot
from stream.consumer.owner import StateOwner
from stream.consumer.progress import PartitionProgress, PollBatch, Progress, TopicPartition, refuse_lost
from stream.consumer.read_log import other_log
from stream.errors import BrokerError, HstuError, StoreBusyError
from stream.kafka.reasons import reason
from stream.kafka.record_batches import tolerant

fetcher.MemoryRecords = tolerant(fetcher.MemoryRecords)

_FRESH_S: Final = 5.0  # a fetch that was answered longer ago does not say where the log ends now
_ENDS_S: Final = 5.0  # how long Kafka may take to say where logs end
_FETCH_MS: Final = 200
_LOCKED_S: Final = 0.25  # between two looks at a partition whose state another process has open
_STEP_S: Final = 0.25  # how late a poll may notice that a partition has been resumed

_log = logging.getLogger("hstu.worker")


class DrivenApp(faust.App):
    """The app as the driver needs it: where consumption begins, what is assigned, and how it ends."""

    BootStrategy = Boot
    owner: StateOwner
    progress: Progress
    abandoned = False
    """Whether it ended before Kafka had let it leave its group."""
    moves = 0
    """Counts what moves positions: two for each seek and each rebalance, so it is odd while one is being sought."""
    note = ""
    """Kept by Kafka with this member's committed offsets, for whoever asks who has a partition."""

    def set_owner(self, owner: StateOwner, progress: Progress) -> None:
        """Set whose state decides where consumption begins."""
        self.owner, self.progress = owner, progress
        self.error: Exception | None = None
        self.booted, self.done = asyncio.Event(), asyncio.Event()
        self.seeking = asyncio.Lock()
        self.assigned: set[TP] = set()

    def fail(self, error: Exception) -> None:
        """End the app with this error, unless it ends with another already; nothing more is polled or handled."""
        self.error = self.error or error
        self.finish()

    def finish(self) -> None:
        """End the app cleanly."""
        self.progress.close()
        self.done.set()

    def abandon(self) -> None:
        """Let no agent be started again: Faust's supervisors would, once their agents are cancelled, and never end."""
        self.abandoned = True
        for agent in self.agents.values():
            if agent.supervisor:
                agent.supervisor._stopped_set()

    def _new_transport(self) -> Any:
        return Transport(self.conf.broker_consumer, self)


class _DaemonThread(WorkerThread):
    """A thread that does not keep a process which has ended alive, as while Kafka does not answer its farewell."""

    def __init__(self, service: ServiceThread) -> None:
        super().__init__(service)
        self.daemon = True


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread of aiokafka's consumer.

    It begins to fetch, at the committed offsets, before we can seek; a fetch at the log's end would take Faust's 1.5 s.
    An app that is done is not told of a rebalance: it would never answer, and the thread would never end.
    """

    Worker = _DaemonThread
    app: DrivenApp

    def _create_worker_consumer(self, transport: Any) -> Any:
        client = super()._create_worker_consumer(transport)
        client._fetch_max_wait_ms = _FETCH_MS
        client._isolation_level = "read_committed"  # Faust sets it for its own transactions alone
        commit = client.commit

        async def noted(offsets: Mapping[TP, OffsetAndMetadata]) -> None:
            await commit({tp: OffsetAndMetadata(found.offset, self.app.note) for tp, found in offsets.items()})

        client.commit = noted
        return client

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Pass the event on to the app, unless it is done."""
        if not self.app.done.is_set():
            await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pass the event on to the app, unless it is done."""
        if not self.app.done.is_set():
            await super().on_partitions_assigned(assigned, generation_id)

    async def on_thread_stop(self) -> None:
        """Leave the group, which a member with an instance id would not do by itself."""
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator._group_instance_id = None
        with suppress(asyncio.CancelledError):  # of a fetch that was waiting to try again: aiokafka lets it out
            await super().on_thread_stop()


class Consumer(driver.Consumer):
    """Faust's consumer, but a poll returns batches, and a seek goes where the owner wants."""

    app: DrivenApp
    _connections: Mapping[Any, Any] = MappingProxyType({})  # to brokers, as they were at the last poll
    _in_doubt = False  # a broker was connected to anew, and the logs have not been looked at since

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.locked: set[TP] = set()  # assigned, but another process has their state open
        self.waiting: asyncio.Future[Any] | None = None  # runs while there are any
        self.told: set[str] = set()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Seek all assigned partitions; called after a rebalance, and by polls during one (idempotent)."""
        await self._seek_locked(of_all=True)
        if self.locked and (self.waiting is None or self.waiting.done()):
            self.waiting = self.add_future(self._wait_for_locked())

    async def _wait_for_locked(self) -> None:
        """Begin with the partitions whose state another process has open as soon as it closes it."""
        while self.locked and not self.app.done.is_set():
            await asyncio.sleep(_LOCKED_S)
            await self._seek_locked()

    async def _seek_locked(self, *, of_all: bool = False) -> None:
        async with self.app.seeking:
            try:
                partitions = self.app.assigned & self.assignment() & (self.app.assigned if of_all else self.locked)
                self.locked = {tp for tp in sorted(partitions) if not await self._is_open(tp)}
                await self._seek_as_wanted(partitions - self.locked)
                self.app.progress.resume(())
            except (KafkaError, TimeoutError) as error:
                why = reason(error)
                self.app.fail(BrokerError(f"Kafka did not let consumption begin: {why}; see that it runs well."))
            except Exception as error:
                self.app.fail(error)

    async def _is_open(self, tp: TP) -> bool:
        try:
            await self.app.owner.open(tp.topic, tp.partition)
        except StoreBusyError as error:
            if (sentence := str(error)) not in self.told:
                self.told.add(sentence)
                _log.warning("Partition %d waits, the others go on: %s", tp.partition, sentence)
            return False
        return True

    def count_partitions(self, topic: str) -> int | None:
        """Return how many partitions a topic has, as the cluster said some seconds ago, None if that is unknown."""
        found = self._thread._ensure_consumer().partitions_for_topic(topic)
        return len(found) if found else None

    def log_end(self, tp: TopicPartition) -> int | None:
        """Return the offset after a log's last record, None unless Kafka has reported it just now."""
        client = self._thread._ensure_consumer()
        answered_ms = client.last_poll_timestamp(tp) if tp in client.assignment() else None
        if answered_ms is None or time.time() - answered_ms / 1000 > _FRESH_S:
            return None
        return self.last_end(tp)

    async def ask_ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where logs end, also of partitions that are not polled, of which no fetch says it.

        In the thread's loop and not in its queue, where a Kafka that does not answer would keep seeks waiting.

        Raises:
            KafkaError: Kafka does not say it.
            TimeoutError: It does not answer in time.
        """
        thread, wanted = self._thread, [TP(*partition) for partition in partitions]

        async def ask() -> dict[TopicPartition, int]:
            return dict(await asyncio.wait_for(thread._ensure_consumer().end_offsets(wanted), _ENDS_S))

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), thread.thread_loop))

    def last_end(self, tp: TopicPartition) -> int | None:
        """Return the same as the last fetch said it, however long ago, None before the first."""
        client = self._thread._ensure_consumer()
        return cast(int | None, client.highwater(tp) if tp in client.assignment() else None)

    async def _seek_as_wanted(self, partitions: set[TP]) -> None:
        if not partitions:
            return
        wanted = {tp: await self.app.owner.open(tp.topic, tp.partition) for tp in sorted(partitions)}
        first, end = await self.earliest_offsets(*partitions), await self.highwaters(*partitions)
        known: dict[TP, int] = {}
        seeks: dict[TP, int] = {}
        for tp, offset in wanted.items():
            seeks[tp] = first[tp] if offset is None else offset
            refuse_lost(tp, seeks[tp], first[tp], end[tp], self.app.owner.way_on)
            if offset is None:
                self.app.owner.start_at(tp.topic, tp.partition, first[tp])
            last = self.app.owner.last_read(tp.topic, tp.partition)
            if last is not None and last >= first[tp]:
                seeks[tp] = known[tp] = last
        self.app.moves += 1
        try:
            await self.seek_wait(seeks)
            if self.app.note:
                await self._commit_note(wanted)
        finally:
            self.app.moves += 1
        for tp, offset in seeks.items():
            if tp not in self.app.assigned:  # revoked meanwhile; begun here, it would live on in the next assignment
                continue
            self._committed_offset[tp] = offset or None  # Faust ignores acknowledgements below it
            self.app.progress.begin(tp, offset, end[tp], known.get(tp), wanted[tp] or 0)
            self.app.owner.begun(tp.topic, tp.partition, known.get(tp))

    async def _commit_note(self, wanted: Mapping[TP, int | None]) -> None:
        """Let Kafka know at once who has these partitions, and not only when their next records are handled."""
        offsets = {driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset or 0, "") for tp, offset in wanted.items()}
        with suppress(KafkaError):  # another rebalance has begun; whoever gets the partitions commits
            await self._thread.call_thread(self._thread._ensure_consumer().commit, offsets)

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        """Poll the partitions that may be polled now, and make a batch of each one's records.

        What was polled while positions moved may lie before or behind them: it is dropped, and all are sought again.
        After a connection was lost nothing is handed on before all logs have been found unchanged: a broker that was
        killed may have lost the end of one, and have written it anew beyond what was read.
        """
        if self._in_doubt:
            await self._seek_again()
            return {}
        ready = await self.app.progress.pollable(active_partitions, timeout)
        if not ready:
            return {}
        wait_s = min(timeout, _STEP_S) if self.app.progress.paused else timeout
        moves = self.app.moves
        polled = await super()._getmany({TP(*tp) for tp in ready}, wait_s)
        if self._reconnected():
            self._in_doubt = True
            self.app.owner.doubted()
            return {}
        if moves % 2 or moves != self.app.moves:
            self._in_doubt = bool(polled)
            return {}
        found = [(TP(*tp), self.app.progress[tp], records) for tp, records in polled.items()]
        await self._pass_over([TP(*tp) for tp in ready if tp not in polled], moves)
        try:
            batches = {tp: await self._batch(tp, progress, records) for tp, progress, records in found}
        except (KafkaError, TimeoutError):  # it does not say where a log begins
            self._in_doubt = True
            return {}
        if moves != self.app.moves:  # Faust would take their offsets for those read since
            self._in_doubt = True
            return {}
        return batches

    async def _pass_over(self, silent: Iterable[TP], moves: int) -> None:
        """Note where logs that have brought nothing were read on: over ends of transactions, and what was aborted.

        A client whose position Kafka has deleted moves by itself as well, to the log's beginning: that is refused.
        """
        for tp in silent:
            progress = self.app.progress.get(tp)
            if progress is None or progress.polled != progress.handled or progress.polled >= (self.last_end(tp) or 0):
                continue
            try:
                position = await self.position(tp) or 0
                first = await self.earliest_offsets(tp) if progress.polled < position else {}
                if first and moves == self.app.moves:
                    self._refuse_gap(tp, progress, first[tp], position)
                    self.app.owner.passed(tp.topic, tp.partition, position)
                    progress.pass_over(position)
            except (KafkaError, TimeoutError):  # another rebalance has begun
                continue
            except HstuError as error:
                self.app.fail(error)

    def _refuse_gap(self, tp: TopicPartition, progress: PartitionProgress, first: int, found: int) -> None:
        """Refuse to go on at an offset beyond the next one, if Kafka has lost or deleted what was to come before it.

        Raises:
            OtherLogError: It has.
        """
        known, progress.known = progress.known, None
        if known is not None and first <= known and tp[0] not in self.app.owner.compacted:
            raise other_log(*tp, known, self.app.owner.way_on)
        wanted = max(progress.wanted, progress.polled)
        refuse_lost(tp, wanted, first, max(found, wanted), self.app.owner.way_on)
        if known is not None:  # retention has deleted it since it was looked for
            self.app.owner.begun(*tp, None)

    def _reconnected(self) -> bool:
        """Return whether a connection to a broker was replaced by another since the last call."""
        now, before = dict(self._thread._ensure_consumer()._client._conns), self._connections
        self._connections = {**before, **now}
        return any(before[broker] is not connection for broker, connection in now.items() if broker in before)

    async def _seek_again(self) -> None:
        """Seek all as if they had just been assigned, in any time; while Kafka is away, the next poll tries again."""
        async with self.app.seeking:
            try:
                partitions = self.app.assigned & self.assignment() - self.locked
                await self._seek_as_wanted(partitions)
                self._in_doubt = False
            except (KafkaError, TimeoutError, StoreBusyError):
                await asyncio.sleep(_STEP_S)
            except Exception as error:
                self.app.fail(error)

    async def _batch(self, tp: TP, progress: PartitionProgress, records: Sequence[Any]) -> PollBatch:
        if records[0].offset != progress.polled:  # compacted, transactional, or lost?
            try:
                first = await self.earliest_offsets(tp)
                if progress is self.app.progress.get(tp):  # of a batch that is void nothing is known
                    self._refuse_gap(tp, progress, first[tp], records[0].offset)
            except HstuError as error:
                self.app.fail(error)
        progress.known = None
        return PollBatch(progress, records)

    def _new_offset(self, tp: TP) -> int | None:
        """Return the end of the last handled batch, to be committed for who asks how far this group has come.

        Faust acknowledges batches as well that were never handled: that failed, or came too late to be.
        """
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self.app.progress.take_handled(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Note no gap: a batch is none."""


class Transport(driver.Transport):
    """Faust's Kafka, with our consumer."""

    Consumer = Consumer


class Unhurried(Recovery):
    """What seeks after each rebalance, as long as stores take: behind Faust's limit nothing would be sought again."""

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        await super()._wait(coro)


class NoTables(TableManager):
    """Faust's tables (public setting TableManager), without the second it waits for some to be declared."""

    app: DrivenApp

    @property
    def recovery(self) -> Recovery:
        """What seeks after each rebalance."""
        if self._recovery is None:
            self._recovery = Unhurried(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Start at once; it is the last of Faust's parts to start."""
        await self._update_channels()
        await self.recovery.start()
        self.app.booted.set()
