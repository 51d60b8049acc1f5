"""The trainer's shell: Faust agents over `examples` and `items` that feed a Training, whose steps run in one thread.

    batch ─► buffer ─► the training thread: offer, step, offer, step, … ─► checkpoints, snapshots, metrics

Everything of the Training happens in that one thread, so the event loop stays free for heartbeats and rebalances. Memory
is bounded without a way to deadlock: a partition far ahead of the one that all wait for is not polled, nothing is offered
while a full micro-batch is ready and enough waits behind it, and agents wait while the buffer is full.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.live import live_view
from model.order import Topic
from model.trainer_metrics import TrainerMetrics
from model.training import Training
from stream.transport import BatchApp, Record, TopicPartition, count_partitions, log_to_stderr, make_app, serve

T = TypeVar("T")
Place = tuple[Topic, int]

_POLL_RECORDS: Final = 500
_BUFFERED: Final = 2_000  # records between the agents and the training thread; agents wait above
_WAITING: Final = 5_000  # records offered and not learnt, above which nothing is offered while a step can be taken
_AHEAD: Final = 1_000  # records of a partition that wait for others, above which it is not polled
_TICK_S: Final = 1.0
_SAY_S: Final = 10.0
_HOST: Final = "127.0.0.1"
_log: Final = logging.getLogger("hstu.train")


def run_trainer(
    train: TrainSettings,
    model: ModelSettings,
    data_dir: Path,
    bootstrap: str,
    *,
    topic_prefix: str,
    partitions: int,
    until_end: bool,
    live: bool,
) -> None:
    """Train until SIGTERM or SIGINT, or until the end of all partitions.

    Args:
        train: how to train, and under which name.
        model: shape of the recommender.
        data_dir: holds checkpoints and snapshots.
        bootstrap: HOST:PORT[,HOST:PORT…].
        topic_prefix: before the names of the topics.
        partitions: of topic `examples`.
        until_end: stop once every partition has reached the end of time and all of it is learnt.
        live: show the live table.

    Raises:
        ModelError: no Kafka is named, `examples` is missing or has other partitions, or training fails.
        BrokerError: Kafka cannot be reached, or failed.
    """
    if not bootstrap:
        raise ModelError("No Kafka is named; give --bootstrap HOST:PORT or set HSTU_BOOTSTRAP.")
    log_to_stderr()
    topics: dict[Topic, str] = {"examples": f"{topic_prefix}examples", "items": f"{topic_prefix}items"}
    found = asyncio.run(count_partitions(bootstrap, topics.values()))
    counts: dict[Topic, int] = {topic: found.get(name, 0) for topic, name in topics.items()}
    if counts["examples"] != partitions:
        raise ModelError(
            f"Topic {topics['examples']} at {bootstrap} has {counts['examples']} partitions, but stream.partitions says "
            f"{partitions}; run hstu topics create, or correct stream.partitions or stream.topic_prefix."
        )
    with ThreadPoolExecutor(1, thread_name_prefix="training") as thread:
        make = partial(Training, items_partitions=counts["items"], partitions=partitions, now=time.time)
        training = thread.submit(make, data_dir, train, model).result()
        try:
            asyncio.run(Trainer(training, thread, bootstrap, topics, until_end).run(live))
        finally:
            thread.submit(training.close).result()


class Trainer:
    """The owner (stream/transport.py) of the trainer's consumption, and what goes on beside it.

    Args:
        training: made in the thread, and used in it alone.
        thread: of one worker.
        bootstrap: where Kafka is.
        topics: their names in Kafka.
        until_end: finish when the training has ended.
    """

    def __init__(
        self, training: Training, thread: ThreadPoolExecutor, bootstrap: str, topics: dict[Topic, str], until_end: bool
    ) -> None:
        self._training, self._thread, self._until_end = training, thread, until_end
        self._bootstrap = bootstrap
        self._names: dict[Topic, str] = {topic: name for topic, name in topics.items() if training.intake.lanes(topic)}
        self._topics = {name: topic for topic, name in self._names.items()}
        self._buffer: deque[tuple[Place, Sequence[Record]]] = deque()
        self._buffered = 0
        self._idle: set[Place] = set()
        self._arrived, self._taken, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._metrics = TrainerMetrics()
        self._report: dict[str, Any] = training.report
        self._app: BatchApp

    async def open(self, topic: str, partition: int) -> int | None:
        """Give the next offset that the training wants, None before it has read anything."""
        return self._training.position(self._topics[topic], partition) or None

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        """A training begins wherever the log does."""

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Keep what was read: it is known by its offsets should it come again."""

    async def close(self) -> None:
        """Wait until the step in hand is done."""
        await self._ended.wait()

    async def run(self, live: bool) -> None:
        """Train until the app is done."""
        settings = self._training.settings
        group = f"{self._names['examples'].removesuffix('examples')}hstu-train-{settings.name}"
        app = self._app = make_app(
            group,
            self._bootstrap,
            self,
            datadir=self._training.directory / f"faust-{os.getpid()}",
            poll_records=_POLL_RECORDS,
            member="-".join((settings.name, *self._names)),  # a member may not come back with other topics
        )
        for topic, name in self._names.items():
            app.batches(name)(partial(self._take, topic))
        app.beside(self._learn)
        app.every(_TICK_S)(self._let_go)
        with self._served_metrics(settings.metrics_port), self._shown(live):
            await serve(app)

    async def _take(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """Put a batch into the buffer, once there is room."""
        while self._buffered >= _BUFFERED and not self._app.done.is_set():
            self._taken.clear()
            await self._taken.wait()
        self._idle.discard((topic, partition))
        self._buffer.append(((topic, partition), records))
        self._buffered += len(records)
        self._arrived.set()

    async def _learn(self) -> None:
        """Offer and step in turns, in the training thread, until the app is done."""
        try:
            ready = False
            while not self._app.done.is_set():
                batches = () if ready and self._training.intake.waiting > _WAITING else self._emptied()
                self._arrived.clear()
                ready, far = await self._in_thread(partial(self._turn, batches, set(self._idle)))
                self._pause(far)
                if self._until_end and self._training.ended:
                    self._app.finish()
                elif not ready and not self._buffer:
                    await self._news()
        finally:
            self._ended.set()
            self._taken.set()

    def _turn(self, batches: Sequence[tuple[Place, Sequence[Record]]], idle: set[Place]) -> tuple[bool, set[Place]]:
        """Offer, then take one step if one is ready (in the training thread); give the partitions far ahead, too."""
        training = self._training
        for (topic, partition), records in batches:
            training.offer(topic, partition, records)
        for topic, partition in idle:
            training.let_go(topic, partition)
        ready = training.step()
        self._report = training.report
        return ready, {place for place in self._places() if training.ahead(*place) > _AHEAD}

    def _emptied(self) -> tuple[tuple[Place, Sequence[Record]], ...]:
        batches = tuple(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self._taken.set()
        return batches
