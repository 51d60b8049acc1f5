"""A worker: Faust agents for impressions, actions and attributes around the core of each partition.

    batch ─► Partition.handle: one commit in the store ─► outbox ─► examples, dead-letters

Partition p of all three sources belongs to one worker, which alone has its store open. After SIGTERM the current batch
is finished, the outbox sent, the stores closed, the group left. After kill -9 the next owner goes on from the store's
offsets.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from stream.config import StreamSettings
from stream.consumer.instance_id import SEATS, lease_free, lease_named, place_of
from stream.errors import BrokerError
from stream.join.partition import Partition
from stream.kafka.clients import cluster_id
from stream.kafka.connection import Kafka
from stream.kafka.groups import committed_offsets
from stream.kafka.permissions import check_permissions
from stream.kafka.reasons import reason
from stream.kafka.topics import EXAMPLE_BYTES, count_partitions, topic_name, verify_topics, workers_group
from stream.metrics_server import Health, serve_metrics
from stream.operations.store_logs import refuse_unlike_logs
from stream.peers.address import Address, read_peer_token
from stream.peers.sequence_service import PATH, SequenceService
from stream.schema.topics import ALL, DEAD_LETTERS, EVENTS, EXAMPLES, ITEMS, SourceTopic
from stream.store.reader import SequenceReader
from stream.transport import BatchApp, Record, log_to_stderr, make_batch_app, run, serve
from stream.worker.furthest_partition import FurthestPartition
from stream.worker.left_stores import LOOK_S, LeftStores
from stream.worker.partitions import AssignedPartition, AssignedPartitions
from stream.worker.prometheus import WorkerMetrics
from stream.worker.refusals import RefusalLog
from stream.worker.silent_topics import SilentTopics

_TICK_S: Final = 1.0
_ASK_S: Final = 10.0  # for Kafka's id
_CLOSE_S: Final = 5.0  # for each client beside the app's
_CREATE_TIME: Final = 0  # Kafka's timestamp_type; 1 is LogAppendTime
_WAITING_EVENTS: Final = 20_000  # of a partition; above this, sources that run ahead are not polled
_log = logging.getLogger("hstu.worker")


def run_worker(settings: StreamSettings, data_dir: Path, kafka: Kafka, name: str) -> None:
    """Join the group of workers and work until SIGTERM or SIGINT.

    Args:
        settings: Shared by all workers.
        data_dir: Holds the stores; workers of one machine share it.
        kafka: The cluster.
        name: This worker's name in logs; several workers on one machine may have the same.

    Raises:
        HstuError: A topic is missing, Kafka failed, or a store cannot be used.
    """
    log_to_stderr()
    check_permissions(
        kafka,
        reads=[topic_name(settings, topic) for topic in (*EVENTS, EXAMPLES)],
        writes=[topic_name(settings, topic) for topic in ALL],  # heartbeats go into those that it reads
        group=workers_group(settings),
    )
    verify_topics(kafka, settings, (*EVENTS, EXAMPLES, DEAD_LETTERS))
    items = count_partitions(kafka, [settings.topic_prefix + ITEMS])
    given = settings.instance_id
    with lease_named(data_dir / SEATS, given) if given else lease_free(data_dir / SEATS, name) as instance:
        run(_work(settings, data_dir, kafka, instance.name, sum(items.values())))


async def _work(settings: StreamSettings, data_dir: Path, kafka: Kafka, name: str, items_partitions: int) -> None:
    producer = AIOKafkaProducer(
        **kafka.client_options(),
        client_id=name,
        enable_idempotence=True,
        linger_ms=5,
        max_batch_size=512 << 10,
        max_request_size=EXAMPLE_BYTES,
    )
    furthest = FurthestPartition(kafka, settings.topic_prefix + EXAMPLES, settings.partitions)
    try:
        await producer.start()
        worker = _Worker(settings, data_dir, kafka, name, producer)
        worker.let_go(SilentTopics(settings, producer, items_partitions, worker.at_end, furthest))
        where = settings.metrics_host, settings.metrics_port
        pages, close_pages = worker.pages()
        port, stop_metrics = serve_metrics(worker.metrics(), *where, worker.health, "stream.metrics_port", pages)
        worker.announce(port)
        _log.info("Worker %s: metrics on http://%s:%d/metrics", name, settings.metrics_host, port)
        try:
            await serve(worker.app)
            others = "are free for others" if not worker.app.abandoned else "go to others when Kafka misses it"
            _log.info("Worker %s has ended; its partitions %s.", name, others)
        finally:
            stop_metrics()
            close_pages()
    except KafkaError as error:
        raise BrokerError(f"Kafka at {kafka} failed: {reason(error)}; see that it runs, and start again.") from None
    finally:
        for client in (furthest, producer):
            with suppress(TimeoutError):  # of records that Kafka has not acknowledged; they are sent again
                await asyncio.wait_for(client.stop(), _CLOSE_S)


class _Worker:
    """The agents of one worker process."""

    def __init__(
        self, settings: StreamSettings, data_dir: Path, kafka: Kafka, name: str, producer: AIOKafkaProducer
    ) -> None:
        self._settings, self._data_dir, self._name = settings, data_dir, name
        cluster = _cluster_of_backups(kafka) if settings.backup_url else ""
        unlike = partial(refuse_unlike_logs, kafka, settings)
        self.partitions = AssignedPartitions(settings, data_dir, producer, self._fail, unlike, cluster)
        self.app: BatchApp = make_batch_app(
            workers_group(settings),
            kafka,
            self.partitions,
            # Of the seat, which one process at a time has.
            datadir=data_dir / "faust" / (settings.instance_id or name.rpartition("-")[0]),
            poll_records=settings.poll_records,
            instance_id=name,
        )
        for source in SourceTopic:
            self.app.batches(self._topic(source))(partial(self._handle, source))
        self.app.expect({self._topic(source): settings.partitions for source in SourceTopic})
        self.app.every(_TICK_S)(self._tick)
        if settings.backup_url:
            self.app.every(settings.backup_s)(lambda: self.partitions.stores.back_up(self.partitions.proven()))
        if settings.standby:  # it follows what would be left
            self.app.every(settings.backup_s)(lambda: self.partitions.stores.follow(self.partitions.has))
        else:
            committed = partial(committed_offsets, kafka, workers_group(settings))
            self.app.every(LOOK_S)(LeftStores(settings, data_dir, self.partitions, committed).look)
        self._refusals = RefusalLog()
        self.health = Health()
        self._misrouted: dict[int, int] = {}  # partition → the count last logged
        self._timed: set[SourceTopic] = set()  # whose kind of Kafka timestamp is known
        self._silent: SilentTopics

    def let_go(self, silent: SilentTopics) -> None:
        """Let heartbeats be written into silent topics."""
        self._silent = silent
        self.app.every(silent.beat_s)(lambda: silent.beat([each.partition for each in self.partitions.proven()]))

    async def at_end(self, source: SourceTopic, number: int) -> bool:
        """Return whether everything in a partition of a source has been handled."""
        return await self.app.at_end((self._topic(source), number))

    def metrics(self) -> CollectorRegistry:
        """Return the Prometheus metrics of this worker."""
        registry = CollectorRegistry(auto_describe=False)
        now_ms, age_s = (lambda: time.time() * 1000), self.partitions.stores.age_s
        of = self._settings.partitions
        registry.register(WorkerMetrics(self.partitions.all, self._lag, now_ms, of, age_s))
        return registry

    def pages(self) -> tuple[dict[str, SequenceService], Callable[[], None]]:
        """Return what is answered to servers, nothing where no token is named, and what closes it.

        Raises:
            HstuError: The token cannot be read.
        """
        token = read_peer_token(self._settings.peer_token_file)
        if not token:
            return {}, lambda: None
        reader = SequenceReader(self._data_dir, self._settings)
        place = place_of(self._data_dir / SEATS)
        service = SequenceService(reader, self._settings, place, self.partitions.has, token)
        return {PATH: service}, reader.close

    def announce(self, port: int) -> None:
        """Let servers find this worker at its metrics port, if they may ask it."""
        if self._settings.peer_token_file:
            host = self._settings.metrics_host
            name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
            url = self._settings.worker_url or f"http://{name}:{port}"
            self.app.note = Address(url, place_of(self._data_dir / SEATS)).note()

    async def _handle(self, source: SourceTopic, number: int, records: Sequence[Record]) -> None:
        self._warn_of_producers_time(source, records)
        self._silent.brought(source, number, records)
        await self.partitions.handle(source, number, records)
        self._pace(self.partitions[number])

    async def _tick(self) -> None:
        self.health.beat(self.app.booted.is_set())
        for assigned in self.partitions:
            self._pace(assigned)
            self._warn_of_misrouted(assigned.partition)
        self._refusals.log(assigned.refused for assigned in self.partitions)

    def _warn_of_misrouted(self, partition: Partition) -> None:
        logged, count = self._misrouted.get(partition.number, 0), partition.counters.misrouted
        if count >= max(1, 2 * logged):  # at 1, 2, 4, 8, …
            self._misrouted[partition.number] = count
            _log.warning(
                "Partition %d holds %d users whom Kafka's default partitioner (murmur2 of the key) puts elsewhere: if "
                "producers differ in this, users are split in two; set the same partitioner everywhere.",
                *(partition.number, count),
            )

    def _warn_of_producers_time(self, source: SourceTopic, records: Sequence[Any]) -> None:
        if source not in self._timed:
            self._timed.add(source)
            if records[-1].timestamp_type == _CREATE_TIME:
                _log.warning(
                    "Topic %s has its producers' time (CreateTime): one whose clock is fast moves everybody's time. "
                    "Set its message.timestamp.type to LogAppendTime, as hstu topics create does.",
                    self._topic(source),
                )

    def _pace(self, assigned: AssignedPartition) -> None:
        ahead = assigned.ahead(_WAITING_EVENTS, partial(self._lag, partition=assigned.partition.number))
        number = assigned.partition.number
        self.app.pause([(self._topic(source), number) for source in ahead])
        self.app.resume([(self._topic(source), number) for source in SourceTopic if source not in ahead])

    def _lag(self, source: SourceTopic, partition: int) -> int | None:
        return self.app.lag((self._topic(source), partition))

    def _topic(self, source: SourceTopic) -> str:
        return self._settings.topic_prefix + source.topic

    def _fail(self, error: Exception) -> None:
        self.app.fail(error)


def _cluster_of_backups(kafka: Kafka) -> str:
    """Return the id of the cluster, by which backups of another one are told apart.

    Raises:
        BrokerError: None of its brokers takes requests yet.
    """
    if (found := cluster_id(kafka, _ASK_S)) is None:
        raise BrokerError(f"None of the brokers of Kafka at {kafka} takes requests yet; start again in a moment.")
    return found
