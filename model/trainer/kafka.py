"""The trainer's shell: Faust agents over `examples` and `items` that feed a Training, whose steps run in one thread.

    batch ─► RecordBuffer ─► the training thread: offer, step, offer, step, … ─► checkpoints, snapshots, metrics

Everything of the Training happens in that one thread, so the event loop stays free for heartbeats and rebalances.
Memory has a bound, and nothing can deadlock: a partition far ahead of the one that all wait for is not polled, nothing
is offered while a full micro-batch is ready and enough waits behind it, and agents wait while the buffer is full.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from model.config import ModelSettings, TrainSettings
from model.distributed.ranks import ALONE, Ranks
from model.errors import ModelError
from model.trainer.merge import Topic
from model.trainer.monitor import Monitor
from model.trainer.record_buffer import Batch, PartitionId, RecordBuffer
from model.trainer.run import Origin, Training
from stream.example import TimeBounds
from stream.transport import (
    BatchApp,
    Kafka,
    Record,
    TopicPartition,
    check_permissions,
    count_partitions,
    log_to_stderr,
    make_batch_app,
    more_partitions,
    other_member,
    place_of,
    run,
    serve,
)

T = TypeVar("T")

_POLL_RECORDS: Final = 500
# Bytes of records
_BUFFERED: Final = 16 << 20  # between the agents and the training thread, above which agents wait
_WAITING: Final = 64 << 20  # offered and not trained on, above which none is offered while a step can be taken
_AHEAD: Final = 16 << 20  # of a partition, that wait for others, above which it is not polled
_TICK_S: Final = 1.0
SESSION_S: Final = 12.0  # after which Kafka has let go of a member that was killed
_log: Final = logging.getLogger("hstu.train")


def run_trainer(
    train: TrainSettings,
    model: ModelSettings,
    data_dir: Path,
    kafka: Kafka,
    *,
    topic_prefix: str,
    partitions: int,
    bounds: TimeBounds,
    until_end: bool,
    live: bool,
    origin: Origin | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Train until SIGTERM or SIGINT, or until the end of all partitions.

    Args:
        train: How to train, and under which name.
        model: Shape of the recommender.
        data_dir: Folder of checkpoints and snapshots.
        kafka: The cluster.
        topic_prefix: Prefix of the topics' names.
        partitions: Number of partitions of topic `examples`.
        bounds: How far records of `items` may move event time.
        until_end: Whether to stop once every partition has reached the end of time and all of it is trained on.
        live: Whether to show the live table.
        origin: Whose weights a run that begins goes on with.
        ranks: The processes that train together, of which this one alone reads Kafka.

    Raises:
        ModelError: `examples` is missing or has other partitions, or training fails.
        BrokerError: Kafka cannot be reached, or failed.
    """
    log_to_stderr()
    topics: dict[Topic, str] = {"examples": f"{topic_prefix}examples", "items": f"{topic_prefix}items"}
    group = f"{topic_prefix}hstu-train-{train.name}"
    check_permissions(kafka, reads=topics.values(), group=group)
    found = count_partitions(kafka, topics.values())
    counts: dict[Topic, int] = {topic: found.get(name, 0) for topic, name in topics.items()}
    if counts["examples"] != partitions:
        raise ModelError(
            f"Topic {topics['examples']} at {kafka} has {counts['examples']} partitions, but stream.partitions "
            f"says {partitions}; run hstu topics create, or correct stream.partitions or stream.topic_prefix."
        )
    names: dict[Topic, str] = {topic: name for topic, name in topics.items() if counts[topic]}
    directory = data_dir / "train" / train.name
    _refuse_second(kafka, group, _instance_id(directory, names) if directory.is_dir() else "", train.name)
    with ThreadPoolExecutor(1, thread_name_prefix="training") as thread:
        make = partial(
            Training,
            items_partitions=counts["items"],
            topic_prefix=topic_prefix,
            partitions=partitions,
            bounds=bounds,
            origin=origin,
            ranks=ranks,
            now=time.time,
        )
        training = thread.submit(make, data_dir, train, model).result()
        try:
            instance_id = _instance_id(training.directory, names)
            trainer = Trainer(training, thread, names, until_end=until_end, live=live, instance_id=instance_id)
            run(trainer.run(kafka, group))
        finally:
            thread.submit(training.close).result()


def _instance_id(directory: Path, names: Iterable[str]) -> str:
    """Return a trainer's name in its consumer group, by which it may come back as itself: of its folder and topics."""
    return "-".join((directory.name, place_of(directory), *names))


def _refuse_second(kafka: Kafka, group: str, instance_id: str, name: str) -> None:
    """Refuse to train where another data directory does under this name: each would get half of the partitions.

    Raises:
        ModelError: Another does.
    """
    if host := other_member(kafka, group, instance_id, SESSION_S):
        raise ModelError(
            f"Another process trains as {name} from another data directory, on {host}: each of the two would get half "
            "of the partitions, and wait for the other half. Stop it, or give this one another --name."
        )


class Trainer:
    """The owner (stream/transport.py) of the trainer's consumption, and what goes on beside it.

    Args:
        training: Made in the thread, and used in it alone while a turn is on.
        thread: A pool of one worker.
        names: Names in Kafka of the topics that exist.
        until_end: Whether to finish when the training has ended.
        live: Whether to show the live table.
        instance_id: Its name in the consumer group.
    """

    def __init__(
        self,
        training: Training,
        thread: ThreadPoolExecutor,
        names: Mapping[Topic, str],
        *,
        until_end: bool,
        live: bool,
        instance_id: str,
    ) -> None:
        self._instance_id = instance_id
        self._training, self._inbox, self._thread = training, training.inbox, thread
        self._names, self._until_end = names, until_end
        self._topics = {name: topic for topic, name in names.items()}
        self._buffer = RecordBuffer(_BUFFERED)
        self._reported = self._report()
        self._reported_s = 0.0
        self._monitor = Monitor(self._reported[0], live)
        self._ended = asyncio.Event()
        self._app: BatchApp

    @property
    def way_on(self) -> str:
        """How to go on where Kafka no longer has what was read; the workers' stores are no matter of the trainer's."""
        return self._inbox.way_on

    @property
    def compacted(self) -> Collection[str]:
        """Return the name of `items`, where it exists."""
        return {name for topic, name in self._names.items() if topic == "items"}

    async def open(self, topic: str, partition: int) -> int | None:
        """Return the next offset that the training wants, None before it has read anything."""
        count = len(self._inbox.merge.queues[self._topics[topic]])
        if partition >= count:
            raise more_partitions(topic, count, partition + 1)
        return self._inbox.position(self._topics[topic], partition) or None

    def last_read(self, topic: str, partition: int) -> int | None:
        """Return the offset of the last record read of `items`, None before any, and of `examples`.

        Examples name the one before them, so another log is recognised without reading one again.
        """
        return self._inbox.last_read(partition) if self._topics[topic] == "items" else None

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        """Do nothing: a training begins wherever the log does."""

    def begun(self, topic: str, partition: int, known: int | None) -> None:
        """Do nothing: a training sends nothing."""

    def doubted(self) -> None:
        """Do nothing: a training sends nothing."""

    def passed(self, topic: str, partition: int, offset: int) -> None:
        """Do nothing: `examples` have no transactions, and of compacted `items` the log's begin stays."""

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Keep what was read: its offsets tell it from what is new, should it come again."""
        if partitions:
            name = self._training.settings.name
            _log.warning("Trainer %s lost its partitions for a moment; does another train as %s elsewhere?", name, name)

    async def close(self) -> None:
        """Wait until the step that runs is done."""
        await self._ended.wait()

    async def run(self, kafka: Kafka, group: str) -> None:
        """Train until the app is done."""
        settings = self._training.settings
        app = self._app = make_batch_app(
            group,
            kafka,
            self,
            datadir=self._training.directory / "faust",
            poll_records=_POLL_RECORDS,
            instance_id=self._instance_id,
        )
        for topic, name in self._names.items():
            app.batches(name)(partial(self._take, topic))
        app.expect({name: len(self._inbox.merge.queues[topic]) for topic, name in self._names.items()})
        app.background(self._learn)
        app.every(_TICK_S)(self._show)
        with self._monitor.open(settings.metrics_host, settings.metrics_port):
            await serve(app)
            self._monitor.end(await self._in_thread(lambda: self._training.report))

    async def _take(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """Put a batch into the buffer, once there is room."""
        await self._buffer.put((topic, partition), records)

    async def _learn(self) -> None:
        """Offer and step in turns, in the training thread, until the app is done."""
        try:
            ready = False
            while not self._app.done.is_set():
                self._buffer.arrived.clear()
                batches = [] if ready and self._inbox.merge.pending_bytes > _WAITING else self._buffer.take()
                ready, far = await self._in_thread(partial(self._turn, batches))
                self._pace(far)
                if self._until_end and self._training.ended:
                    self._app.finish()
                elif not ready and not self._buffer:
                    await _first(self._buffer.arrived, self._app.done, timeout_s=_TICK_S)
        finally:
            self._app.finish()
            self._ended.set()
            self._buffer.close()

    def _turn(self, batches: Iterable[Batch]) -> tuple[bool, set[PartitionId]]:
        """Offer, then take one step if one is ready, in the training thread.

        Returns whether a step was taken, and the partitions that are far ahead of the others.
        """
        self._monitor.health.beat(self._app.booted.is_set())
        for (topic, partition), records in batches:
            self._inbox.offer(topic, partition, records)
        ready = self._training.step()
        if time.monotonic() - self._reported_s >= _TICK_S or self._training.ended:
            self._reported, self._reported_s = self._report(), time.monotonic()
        return ready, {each for each in self._partitions() if self._inbox.merge.ahead(*each) > _AHEAD}

    def _pace(self, far: set[PartitionId]) -> None:
        """Pause the partitions that are far ahead, and poll all others."""
        self._app.pause([(self._names[topic], partition) for topic, partition in far])
        self._app.resume([(self._names[topic], partition) for topic, partition in self._partitions() - far])

    def _partitions(self) -> set[PartitionId]:
        return {(topic, queue.partition) for topic in self._names for queue in self._inbox.merge.queues[topic]}

    def _report(self) -> tuple[Mapping[str, Any], dict[PartitionId, int]]:
        """Return a report, and up to which offsets all that was read is in it."""
        return self._training.report, {each: self._inbox.position(*each) for each in self._partitions()}

    async def _show(self) -> None:
        report, read = self._reported
        self._monitor.show(report, self._lag(read))

    def _lag(self, read: Mapping[PartitionId, int]) -> int | None:
        """Return how many records are not in the report: also those that wait in the buffer while a step runs."""
        lags = [self._app.lag((self._names[topic], partition), at) for (topic, partition), at in read.items()]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if len(known) == len(lags) else None

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


async def _first(*events: asyncio.Event, timeout_s: float) -> None:
    """Wait for one of the events, or for the timeout."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
