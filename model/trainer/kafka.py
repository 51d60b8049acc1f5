"""The trainer's shell: Faust agents over `examples` and `items` that feed a Training, whose steps run in one thread.

    batch ─► buffer ─► the training thread: offer, step, offer, step, … ─► checkpoints, snapshots, metrics

Everything of the Training happens in that one thread, so the event loop stays free for heartbeats and rebalances.
Memory has a bound, and nothing can deadlock: a partition far ahead of the one that all wait for is not polled, nothing
is offered while a full micro-batch is ready and enough waits behind it, and agents wait while the buffer is full.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client import start_http_server
from rich.live import Live

from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.trainer.live_table import live_view
from model.trainer.merge import Topic
from model.trainer.prometheus import TrainerMetrics
from model.trainer.run import Training
from stream.transport import BatchApp, Record, TopicPartition, count_partitions, log_to_stderr, make_batch_app, serve

T = TypeVar("T")
Place = tuple[Topic, int]

_POLL_RECORDS: Final = 500
_BUFFERED: Final = 2_000  # records between the agents and the training thread; agents wait above
_WAITING: Final = 5_000  # records offered and not learnt, above which nothing is offered while a step can be taken
_AHEAD: Final = 1_000  # records of a partition that wait for others, above which it is not polled
_TICK_S: Final = 1.0
_SAY_S: Final = 10.0
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
    found = count_partitions(bootstrap, topics.values())
    counts: dict[Topic, int] = {topic: found.get(name, 0) for topic, name in topics.items()}
    if counts["examples"] != partitions:
        raise ModelError(
            f"Topic {topics['examples']} at {bootstrap} has {counts['examples']} partitions, but stream.partitions "
            f"says {partitions}; run hstu topics create, or correct stream.partitions or stream.topic_prefix."
        )
    names: dict[Topic, str] = {topic: name for topic, name in topics.items() if counts[topic]}
    with ThreadPoolExecutor(1, thread_name_prefix="training") as thread:
        make = partial(Training, items_partitions=counts["items"], partitions=partitions, now=time.time)
        training = thread.submit(make, data_dir, train, model).result()
        try:
            asyncio.run(Trainer(training, thread, names, until_end).run(bootstrap, f"{topic_prefix}hstu-train-", live))
        finally:
            thread.submit(training.close).result()


class Trainer:
    """The owner (stream/transport.py) of the trainer's consumption, and what goes on beside it.

    Args:
        training: made in the thread, and used in it alone while a turn is on.
        thread: of one worker.
        names: in Kafka, of the topics that exist.
        until_end: finish when the training has ended.
    """

    def __init__(
        self, training: Training, thread: ThreadPoolExecutor, names: Mapping[Topic, str], until_end: bool
    ) -> None:
        self._training, self._thread, self._until_end = training, thread, until_end
        self._names = names
        self._topics = {name: topic for topic, name in names.items()}
        self._buffer: deque[tuple[Place, Sequence[Record]]] = deque()
        self._buffered = 0
        self._idle: set[Place] = set()  # silent for long, and let go or about to be
        self._silent: set[Place] = set()  # of these, the ones that the training does not know of yet
        self._arrived, self._taken, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._metrics = TrainerMetrics()
        self._report: Mapping[str, Any] = training.report
        self._reported_s = 0.0
        self._app: BatchApp

    async def open(self, topic: str, partition: int) -> int | None:
        """Give the next offset that the training wants, None before it has read anything."""
        return self._training.position(self._topics[topic], partition) or None

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        """A training begins wherever the log does."""

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Keep what was read: it is known by its offsets should it come again."""
        if partitions:
            name = self._training.settings.name
            _log.warning("Trainer %s lost its partitions for a moment; does another train as %s elsewhere?", name, name)

    async def close(self) -> None:
        """Wait until the step in hand is done."""
        await self._ended.wait()

    async def run(self, bootstrap: str, group_prefix: str, live: bool) -> None:
        """Train until the app is done."""
        settings = self._training.settings
        app = self._app = make_batch_app(
            group_prefix + settings.name,
            bootstrap,
            self,
            datadir=self._training.directory / f"faust-{os.getpid()}",
            poll_records=_POLL_RECORDS,
            instance_id="-".join((settings.name, *self._names)),  # a member may not come back with other topics
        )
        for topic, name in self._names.items():
            app.batches(name)(partial(self._take, topic))
        app.background(self._learn)
        app.every(_TICK_S)(self._look_for_silence)
        with _served(self._metrics, settings.metrics_host, settings.metrics_port), self._shown(live):
            await serve(app)

    async def _take(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """Put a batch into the buffer, once there is room."""
        while self._buffered >= _BUFFERED and not self._app.done.is_set():
            self._taken.clear()
            await self._taken.wait()
        place = topic, partition
        self._idle.discard(place)
        self._silent.discard(place)
        self._buffer.append((place, records))
        self._buffered += len(records)
        self._arrived.set()

    async def _learn(self) -> None:
        """Offer and step in turns, in the training thread, until the app is done."""
        try:
            ready = False
            while not self._app.done.is_set():
                batches, silent = self._news(full=ready and self._training.intake.waiting > _WAITING)
                ready, far = await self._in_thread(partial(self._turn, batches, silent))
                self._pace(far)
                if self._until_end and self._training.ended:
                    self._app.finish()
                elif not ready and not self._buffer:
                    await _first(self._arrived, self._app.done, timeout_s=_TICK_S)
        finally:
            self._app.finish()
            self._ended.set()
            self._taken.set()

    def _news(self, full: bool) -> tuple[Sequence[tuple[Place, Sequence[Record]]], Collection[Place]]:
        """Give, and forget, what the training is to be told: batches unless it is full, and who has been silent."""
        self._arrived.clear()
        silent, self._silent = self._silent, set()
        if full:
            return (), silent
        batches = tuple(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self._taken.set()
        return batches, silent

    def _turn(
        self, batches: Iterable[tuple[Place, Sequence[Record]]], silent: Iterable[Place]
    ) -> tuple[bool, set[Place]]:
        """Offer, then take one step if one is ready, in the training thread; give the partitions far ahead, too."""
        training = self._training
        for (topic, partition), records in batches:
            training.offer(topic, partition, records)
        for topic, partition in silent:
            training.let_go(topic, partition)
        ready = training.step()
        if time.monotonic() - self._reported_s >= _TICK_S or training.ended:
            self._report, self._reported_s = training.report, time.monotonic()
        return ready, {place for place in self._places() if training.ahead(*place) > _AHEAD}

    def _pace(self, far: set[Place]) -> None:
        """Poll those far ahead no more, and all others."""
        self._app.pause([(self._names[topic], partition) for topic, partition in far])
        self._app.resume([(self._names[topic], partition) for topic, partition in self._places() - far])

    def _places(self) -> set[Place]:
        return {(topic, lane.partition) for topic in self._names for lane in self._training.intake.merge.lanes[topic]}

    async def _look_for_silence(self) -> None:
        """Let partitions that have been at their end for long no longer hold the others back; show how it goes."""
        silent = await self._app.idle(self._training.settings.idle_timeout_s)
        idle = {(self._topics[name], partition) for name, partition in silent}
        idle -= {place for place, _ in self._buffer}
        if idle - self._idle:
            self._silent |= idle - self._idle
            self._arrived.set()
        self._idle = idle
        self._metrics.update(self._report, self._lag())

    def _lag(self) -> int | None:
        lags = [self._app.lag((self._names[topic], partition)) for topic, partition in self._places()]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if len(known) == len(lags) else None

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    @contextmanager
    def _shown(self, live: bool) -> Iterator[None]:
        """Show the live table, or say a line now and then."""
        if not live:
            self._app.every(_SAY_S)(self._say)
            yield
            return
        with Live(live_view(self._report), auto_refresh=False) as table:

            async def draw() -> None:
                table.update(live_view(self._report, self._lag()), refresh=True)

            self._app.every(_TICK_S)(draw)
            yield
            table.update(live_view(self._report), refresh=True)

    async def _say(self) -> None:
        report = self._report
        _log.info("Trainer %s: step %d, %d examples.", report["name"], report["step"], report["examples"])


async def _first(*events: asyncio.Event, timeout_s: float) -> None:
    """Wait for one of the events, but not for long."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


@contextmanager
def _served(metrics: TrainerMetrics, host: str, port: int) -> Iterator[None]:
    """Serve metrics for Prometheus.

    Raises:
        ModelError: the port is taken.
    """
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise ModelError(
            f"Metrics cannot be served on {host}:{port}: {error.strerror}; choose another train.metrics_port (0: any)."
        ) from None
    _log.info("Metrics on http://%s:%d/metrics", host, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
