"""A worker: Faust agents for impressions, actions and attributes around the core of each partition.

    batch ─► Partition.handle: one commit in the store ─► outbox ─► examples, dead-letters

Partition p of all three sources belongs to one worker, which alone has its store open. After SIGTERM the current batch
is finished, the outbox sent, the stores closed, the group left. After kill -9 the next owner goes on from the store's
offsets.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream.config import StreamSettings
from stream.consumer.instance_id import lease_free
from stream.errors import BrokerError
from stream.join.partition import Partition
from stream.kafka.connection import Kafka
from stream.kafka.permissions import check_permissions
from stream.kafka.reasons import reason
from stream.kafka.topics import EXAMPLE_BYTES, topic_name, verify_topics
from stream.schema.topics import ALL, DEAD_LETTERS, EVENTS, EXAMPLES, SourceTopic
from stream.transport import BatchApp, Record, log_to_stderr, make_batch_app, serve
from stream.worker.partitions import AssignedPartition, AssignedPartitions
from stream.worker.prometheus import WorkerMetrics, serve_metrics

_TICK_S: Final = 1.0
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
        group=_group(settings),
    )
    verify_topics(kafka, settings, (*EVENTS, EXAMPLES, DEAD_LETTERS))
    with lease_free(data_dir / "seats", name) as instance:
        asyncio.run(_work(settings, data_dir, kafka, instance.name))


def _group(settings: StreamSettings) -> str:
    return f"{settings.topic_prefix}hstu-workers"


async def _work(settings: StreamSettings, data_dir: Path, kafka: Kafka, name: str) -> None:
    producer = AIOKafkaProducer(
        **kafka.client_options(),
        client_id=name,
        enable_idempotence=True,
        linger_ms=5,
        max_batch_size=512 << 10,
        max_request_size=EXAMPLE_BYTES,
    )
    try:
        await producer.start()
        worker = _Worker(settings, data_dir, kafka, name, producer)
        port, stop_metrics = serve_metrics(worker.metrics(), settings.metrics_host, settings.metrics_port)
        _log.info("Worker %s: metrics on http://%s:%d/metrics", name, settings.metrics_host, port)
        try:
            await serve(worker.app)
        finally:
            stop_metrics()
    except KafkaError as error:
        raise BrokerError(f"Kafka at {kafka} failed: {reason(error)}; see that it runs, and start again.") from None
    finally:
        await producer.stop()


class _Worker:
    """The agents of one worker process."""

    def __init__(
        self, settings: StreamSettings, data_dir: Path, kafka: Kafka, name: str, producer: AIOKafkaProducer
    ) -> None:
        self._settings, self._name = settings, name
        self.partitions = AssignedPartitions(settings, data_dir, producer, self._fail)
        self.app: BatchApp = make_batch_app(
            _group(settings),
            kafka,
            self.partitions,
            datadir=data_dir / "faust" / f"{name}-{os.getpid()}",
            poll_records=settings.poll_records,
            instance_id=name,
        )
        for source in SourceTopic:
            self.app.batches(self._topic(source))(partial(self._handle, source))
        self.app.every(_TICK_S)(self._tick)
        self._misrouted: dict[int, int] = {}  # partition → the count last logged

    def metrics(self) -> WorkerMetrics:
        """Return the Prometheus collector of this worker."""
        return WorkerMetrics(self.partitions.all, self._lag, lambda: time.time() * 1000)

    async def _handle(self, source: SourceTopic, number: int, records: Sequence[Record]) -> None:
        await self.partitions.handle(source, number, records)
        self._pace(self.partitions[number])

    async def _tick(self) -> None:
        """Let sources that have been at their end for `idle_timeout_s` no longer hold the others back."""
        self.partitions.advance(await self.app.idle(self._settings.idle_timeout_s))
        for assigned in self.partitions:
            self._pace(assigned)
            self._warn_of_misrouted(assigned.partition)

    def _warn_of_misrouted(self, partition: Partition) -> None:
        logged, count = self._misrouted.get(partition.number, 0), partition.counters.misrouted
        if count >= max(1, 2 * logged):  # at 1, 2, 4, 8, …
            self._misrouted[partition.number] = count
            _log.warning(
                "Partition %d holds %d users whom Kafka's default partitioner (murmur2 of the key) puts elsewhere: if "
                "producers differ in this, users are split in two; set the same partitioner everywhere.",
                *(partition.number, count),
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
