"""Faust apps whose agents get whole poll batches of Kafka, consumed from where our own state says.

Faust keeps the group, the assignor, heartbeats, rebalances and agents; it sees one message per (partition, poll), whose
value is a `PollBatch` (progress.py). At every assignment the `StateOwner` says where consumption begins; committed
offsets are never used for that.

    assigned ── StateOwner.open ──► next offset, checked against the log's ends ──► seek
    polled ── PollBatch ──► agent ──► handler ──► the owner's state, in one commit
    revoked, stopped ── the current batch is finished ──► StateOwner.revoked, StateOwner.close

After an error in a handler, a timer or the owner nothing more is handled, and `serve` raises it. How Faust is made to
do so is in stream/consumer/faust_driver.py. This module is the door through which model/ consumes Kafka.
"""

import asyncio
import logging
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

from aiokafka.errors import KafkaError
from faust.auth import SASLCredentials, SSLCredentials
from faust.types import TP

from stream.consumer.faust_driver import Consumer, DrivenApp, NoTables
from stream.consumer.faust_settings import Assignor, Scheduler, Schema
from stream.consumer.instance_id import place_of
from stream.consumer.log_filter import log_to_stderr
from stream.consumer.owner import StateOwner
from stream.consumer.progress import PollBatch, Progress, TopicPartition, refuse_dropped
from stream.errors import BrokerError
from stream.example import Record
from stream.kafka.connection import Kafka
from stream.kafka.groups import other_member
from stream.kafka.permissions import check_permissions
from stream.kafka.probe import check_lets_in
from stream.kafka.reasons import reason
from stream.kafka.topics import count_partitions

__all__ = [
    "BatchApp",
    "Handler",
    "Kafka",
    "Record",
    "StateOwner",
    "TopicPartition",
    "check_permissions",
    "count_partitions",
    "log_to_stderr",
    "make_batch_app",
    "more_partitions",
    "other_member",
    "place_of",
    "run",
    "serve",
]

_ANSWER_S: Final = 60.0  # for Kafka to answer, and for members to join a rebalance
_BOOT_S: Final = 5.0
_ASK_S: Final = 10.0
_STOP_S: Final = 40.0  # for the current batch and leaving the group; with the rest less than a supervisor waits
_LEFT_S: Final = 5.0  # for what a run leaves behind
_AGAIN_S: Final = 0.25
_LOOK_S: Final = 1.0
_ENDS_S: Final = 2.0  # between two questions where the logs end
_KNOWN_S: Final = 10.0  # after which an answer says nothing of now
_METADATA_MS: Final = 3_000  # how old what is known of the topics may be

_log = logging.getLogger("hstu.worker")

Timer = Callable[[], Awaitable[None]]


Handler = Callable[[int, Sequence[Record]], Awaitable[None]]  # (partition, its records in offset order)


class BatchApp(DrivenApp):
    """A Faust app whose agents get whole poll batches; made by `make_batch_app`, run by `serve`."""

    def set_owner(self, owner: StateOwner, progress: Progress) -> None:
        """Set whose state decides where consumption begins."""
        super().set_owner(owner, progress)
        self.timers: list[tuple[float, Timer]] = [(_ENDS_S, self._ask_ends)]
        self.backgrounds: list[Timer] = []
        self.on_partitions_assigned.connect(self._on_assigned)
        self.on_partitions_revoked.connect(self._on_revoked)
        self.on_before_shutdown.connect(self._on_shutdown)

    def batches(self, topic: str) -> Callable[[Handler], Handler]:
        """Return a decorator that makes an agent of an async function (partition, records)."""

        def decorate(handler: Handler) -> Handler:
            async def agent(stream: Any) -> None:
                async for batch in stream:
                    await self._deliver(batch, handler)

            self.agent(self.topic(topic, schema=Schema()), name=f"hstu.{topic}")(agent)
            return handler

        return decorate

    def every(self, seconds: float) -> Callable[[Timer], Timer]:
        """Return a decorator that makes a timer of an async function; it never runs twice at once."""

        def decorate(function: Timer) -> Timer:
            self.timers.append((seconds, function))
            return function

        return decorate

    def expect(self, partitions: Mapping[str, int]) -> None:
        """End the app with an error once a topic has another number of partitions than this, by its name in Kafka."""

        async def look() -> None:
            for topic, count in partitions.items():
                found = cast(Consumer, self.consumer).count_partitions(topic) if self.booted.is_set() else None
                if found is not None and found > count:
                    raise more_partitions(topic, count, found)

        self.every(_LOOK_S)(look)

    def background(self, function: Timer) -> Timer:
        """Run an async function once, as long as the agents run, until `done` is set; an error in it ends the app."""
        self.backgrounds.append(function)
        return function

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop polling these; nothing that was polled is lost."""
        self.progress.pause(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Poll these again."""
        self.progress.resume(partitions)

    def lag(self, partition: TopicPartition, done: int | None = None) -> int | None:
        """Return how many records lie between what is done and the log's end, as Kafka said it a few seconds ago.

        None where the partition is not assigned, or Kafka has been silent.

        Args:
            partition: The partition.
            done: The offset after what is done, 0 for nothing; None: what is handled.
        """
        if partition not in self.progress or time.monotonic() - self.progress[partition].end_s > _KNOWN_S:
            return None
        progress = self.progress[partition]
        end = max(progress.end, cast(Consumer, self.consumer).last_end(partition) or 0)
        done = progress.last if done is None else done or progress.begun
        return max(0, end - (progress.handled if done == progress.last else done))

    async def _ask_ends(self) -> None:
        asked_s, partitions = time.monotonic(), list(self.progress)
        if partitions and self.booted.is_set():
            with suppress(KafkaError, TimeoutError):
                self.progress.note_ends(await cast(Consumer, self.consumer).ask_ends(partitions), asked_s)

    async def at_end(self, partition: TopicPartition) -> bool:
        """Return whether everything in a partition has been handled, as far as Kafka reported in the last seconds."""
        end = self._log_end(partition)
        if end is None or partition in self.progress.paused or self.progress[partition].in_flight:
            return False
        with suppress(KafkaError):  # revoked meanwhile
            position = await self.consumer.position(TP(*partition))  # beyond `handled` where transactions left markers
            return position is not None and position >= end
        return False

    def _log_end(self, partition: TopicPartition) -> int | None:
        return cast(Consumer, self.consumer).log_end(partition) if partition in self.progress else None

    async def _deliver(self, batch: PollBatch, handler: Handler) -> None:
        if not self.progress.is_current(batch):
            return
        try:
            refuse_dropped(batch)
            await handler(batch.partition, batch.records)
        except Exception as error:
            self.fail(error)
        else:
            self.progress.handled(batch)

    async def _on_assigned(self, app: Any, /, *about: Any, **_: Any) -> None:
        self.assigned = set(about[0])
        if not self.assigned:
            _log.info("This process has no partition: others in the group %s have all; it waits for one", self.conf.id)

    async def _on_revoked(self, app: Any, /, *about: Any, **_: Any) -> None:
        self.assigned = set()
        self.progress.clear()
        self.moves += 2
        async with self.seeking:
            await self.or_fail(self.owner.revoked(about[0]))

    async def _on_shutdown(self, app: Any, /, *_: Any, **__: Any) -> None:
        self.assigned = set()
        await self.or_fail(self.owner.close())

    async def or_fail(self, action: Awaitable[None]) -> None:
        """Await something whose error ends the app."""
        try:
            await action
        except Exception as error:
            self.fail(error)

    async def ask_why_silent(self, kafka: Kafka) -> None:
        """End the app if Kafka does not answer its fetches because it refuses us, as after a change of the password."""
        if all(self._log_end(partition) is None for partition in self.progress):
            await self.or_fail(asyncio.to_thread(check_lets_in, kafka))


def make_batch_app(
    group: str,
    kafka: Kafka,
    owner: StateOwner,
    *,
    datadir: Path,
    poll_records: int = 5000,
    session_timeout_s: float = 10.0,
    instance_id: str = "",
) -> BatchApp:
    """Return an app; call it inside the event loop that is to run it.

    Args:
        group: Kafka's consumer group, which is the app's id.
        kafka: The cluster.
        owner: Its state decides where consumption begins.
        datadir: A folder for Faust that no other process uses; emptied here, removed by `serve`.
        poll_records: How many records are polled at once, over all partitions; four times as many may wait for their
            handlers.
        session_timeout_s: The silence after which Kafka gives this member's partitions to others.
        instance_id: Kafka's group.instance.id, a name that one process at a time has in the group. The next process
            with the name takes over its partitions at once, even if the last was killed; in return no other process
            gets them before the session times out.
    """
    shutil.rmtree(datadir, ignore_errors=True)  # left by a process that was killed
    datadir.mkdir(parents=True)
    app = BatchApp(
        group,
        broker=[f"kafka://{server}" for server in kafka.servers],
        broker_credentials=faust_credentials(kafka),
        datadir=str(datadir),
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        PartitionAssignor=Assignor,
        ConsumerScheduler=Scheduler,
        TableManager=NoTables,
        stream_buffer_maxsize=4096,  # of batches; `Progress` bounds their records
        broker_max_poll_records=poll_records,
        consumer_metadata_max_age_ms=_METADATA_MS,
        broker_session_timeout=session_timeout_s,
        consumer_group_instance_id=instance_id or None,
        broker_heartbeat_interval=min(1.0, session_timeout_s / 6),
        broker_rebalance_timeout=_ANSWER_S,
        broker_request_timeout=_ANSWER_S,
        broker_commit_livelock_soft_timeout=86_400.0,
        stream_processing_timeout=86_400.0,
    )
    app.set_owner(owner, Progress(4 * poll_records))
    if kafka.authenticated or kafka.encrypted:
        app.every(_ASK_S)(partial(app.ask_why_silent, kafka))
    return app


def faust_credentials(kafka: Kafka) -> SASLCredentials | SSLCredentials | None:
    """Return how a Faust app authenticates and encrypts."""
    options = kafka.client_options()
    if kafka.authenticated:
        return SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=options.get("ssl_context"),
        )
    return SSLCredentials(options["ssl_context"]) if kafka.encrypted else None


def more_partitions(topic: str, expected: int, found: int) -> BrokerError:
    """Return the refusal of a topic whose partitions were raised while it was in use."""
    return BrokerError(
        f"The topic {topic} has {found} partitions now, and had {expected} when this began. Producers have sent users' "
        "events to other partitions since, away from what is known of them, and Kafka cannot take partitions back. "
        f"Nothing is lost: all events are in Kafka. Stop the producers, make topics of {found} partitions under "
        "another stream.topic_prefix and data_dir, and copy the events there by their keys (docs/recovery.md)."
    )


async def serve(app: BatchApp) -> None:
    """Run an app until `finish`, SIGTERM or SIGINT, then stop it cleanly: its group has been left and its owner closed.

    Raises:
        BrokerError: Kafka failed in a way that starting again may repair.
        Exception: What a handler, a timer or the owner raised.
    """
    with finishing_on_signals(app.finish):
        await _serve(app)


async def _serve(app: BatchApp) -> None:
    beside = [asyncio.create_task(app.or_fail(run())) for run in app.backgrounds]
    runs = [_start(app), *(_repeat(app, *timer) for timer in app.timers)]
    tasks = [*map(asyncio.create_task, runs), *beside]
    try:
        await app.done.wait()
        if beside:
            await asyncio.wait(beside)  # a step of the training, as long as it takes
        with suppress(TimeoutError):  # Faust cannot be stopped while its parts are still being started
            await asyncio.wait_for(app.booted.wait(), _BOOT_S)
        await _stop(app)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        shutil.rmtree(app.conf.datadir, ignore_errors=True)
    if app.error:
        raise app.error


async def _stop(app: BatchApp) -> None:
    stopping = asyncio.create_task(app.stop())
    await asyncio.wait({stopping}, timeout=_STOP_S)
    if stopping.done():
        await stopping
        return
    _log.warning("Kafka has not let this process leave its group for %g s; it ends all the same.", _STOP_S)
    app.abandon()
    for parts in ("faust", "mode"):  # nobody needs to know how each of them ends
        logging.getLogger(parts).setLevel(logging.CRITICAL + 1)
    stopping.cancel()  # not waited for: Faust's parts pass over a cancellation, and stop the next one


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a process that serves an app to its end, as asyncio.run does, which would wait for what Faust leaves behind.

    That is cancelled again and again for a while, and then left: while Kafka is silent nothing that waits for it ends.
    """
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main)
    finally:
        end_s = time.monotonic() + _LEFT_S
        while (left := asyncio.all_tasks(loop)) and time.monotonic() < end_s:
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=_AGAIN_S))
        loop.set_exception_handler(lambda *_: None)  # tasks that are left
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@contextmanager
def finishing_on_signals(finish: Callable[[], None]) -> Iterator[None]:
    """Call `finish` in the running event loop at each SIGTERM and SIGINT.

    asyncio's own handlers write signals to a pipe of the loop, and Python prints a traceback for one that comes while
    the loop closes it: when SIGTERM is sent twice, as supervisors do.
    """
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _start(app: BatchApp) -> None:
    """Start the app and wait until it stops, which Faust may do by itself."""
    try:
        await app.start()
        await app.wait_until_stopped()
        if app.crash_reason:
            raise app.crash_reason
        app.finish()
    except Exception as error:
        kafka = isinstance(error, KafkaError)
        if not app.done.is_set():
            why = f"Kafka failed: {reason(error)}; see that it runs well, and restart."
            app.fail(BrokerError(why) if kafka else error)
    finally:
        app.booted.set()


async def _repeat(app: BatchApp, seconds: float, function: Timer) -> None:
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(app.done.wait(), seconds)
            return
        await app.or_fail(function())
