"""Heartbeats that a worker writes into silent topics, so that they no longer hold the others of their partition back.

A topic is silent once it has been at its log's end for `idle_timeout_s`. The heartbeat says how far event time has come
elsewhere:

    some topics of the partition bring records   the least of their clocks
    all of them are silent                       the furthest of their clocks, or of another partition (`examples`)

Wall time decides only when a heartbeat is written. Its value is a time that events have shown, and what it means the
log decides, in which it is a record like any other: one that is written twice, or by a worker that has lost the
partition without knowing, is harmless, and a store built again reads it again. A replay sends its own heartbeats, so a
partition that one drives is left alone. `items`, which workers do not read, get the partition's watermark.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final, Protocol

from aiokafka import AIOKafkaProducer

from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.join.reorder_buffer import NEVER_MS
from stream.schema.record_time import IDLE, Timed, is_idle
from stream.schema.topics import ITEMS, ITEMS_HEARTBEAT_KEY, SourceTopic

LEAST_BEAT_S: Final = 1.0
_BEATS: Final = 10  # heartbeats in one idle timeout, unless that is shorter than this many seconds
_log = logging.getLogger("hstu.worker")


class Furthest(Protocol):
    """Knows how far the partitions of all workers have come."""

    async def watermark_ms(self) -> int:
        """Return the largest watermark of all partitions, NEVER_MS where none is known."""


def target_ms(clocks_ms: Sequence[int], silent: Collection[SourceTopic], furthest_ms: int) -> int:
    """Return the time to which a partition's silent topics are moved.

    Args:
        clocks_ms: The clock of each source.
        silent: The sources that are silent.
        furthest_ms: The largest clock that all topics of some partition have passed; it counts where all are silent.
    """
    busy_ms = [clock_ms for source, clock_ms in enumerate(clocks_ms) if source not in silent]
    return min(busy_ms) if busy_ms else max(*clocks_ms, furthest_ms)


class SilentTopics:
    """Notes which topics are silent, and writes their heartbeats.

    Args:
        settings: Shared by all workers.
        producer: Started.
        items_partitions: Number of partitions of topic `items`, 0 where it does not exist.
        at_end: Returns whether everything in a partition of a source has been handled.
        furthest: Asked where all topics of a partition are silent.
        now_s: A clock that never goes back.
    """

    def __init__(
        self,
        settings: StreamSettings,
        producer: AIOKafkaProducer,
        items_partitions: int,
        at_end: Callable[[SourceTopic, int], Awaitable[bool]],
        furthest: Furthest,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.beat_s = max(LEAST_BEAT_S, settings.idle_timeout_s / _BEATS)
        self._settings, self._producer, self._at_end, self._furthest = settings, producer, at_end, furthest
        self._items_partitions, self._now_s = items_partitions, now_s
        self._since_s: dict[tuple[SourceTopic, int], float] = {}  # since when a source has been at its end
        self._items_ms: dict[int, int] = {}  # partition → its last heartbeat on `items`

    def brought(self, source: SourceTopic, number: int, records: Iterable[Timed]) -> None:
        """Note that a source has brought records; heartbeats of workers do not count."""
        if (source, number) in self._since_s and not all(map(is_idle, records)):
            del self._since_s[source, number]

    async def beat(self, partitions: Iterable[Partition]) -> None:
        """Write what is due; call it every `beat_s`."""
        if self._settings.idle_timeout_s:
            for partition in partitions:
                if not partition.replayed:
                    await self._beat(partition)

    async def _beat(self, partition: Partition) -> None:
        number = partition.number
        silent = [source for source in SourceTopic if await self._is_silent(source, number)]
        clocks_ms = [partition.clock_ms(source) for source in SourceTopic]
        target = target_ms(clocks_ms, silent, await self._furthest_ms() if len(silent) == len(clocks_ms) else NEVER_MS)
        for source in silent:
            if partition.clock_ms(source) < target:
                await self._write(source.topic, number, target)
        if number < self._items_partitions and partition.watermark_ms > self._items_ms.get(number, 0):
            self._items_ms[number] = partition.watermark_ms
            await self._write(ITEMS, number, partition.watermark_ms, ITEMS_HEARTBEAT_KEY)

    async def _is_silent(self, source: SourceTopic, number: int) -> bool:
        if not await self._at_end(source, number):
            self._since_s.pop((source, number), None)
            return False
        since_s = self._since_s.setdefault((source, number), self._now_s())
        return self._now_s() - since_s >= self._settings.idle_timeout_s

    async def _furthest_ms(self) -> int:
        watermark_ms = await self._furthest.watermark_ms()
        return watermark_ms + int(self._settings.lateness_s * 1000) if watermark_ms > NEVER_MS else NEVER_MS

    async def _write(self, topic: str, number: int, watermark_ms: int, key: bytes | None = None) -> None:
        value = b'{"watermark":%d}' % watermark_ms
        sent = await self._producer.send(
            self._settings.topic_prefix + topic,
            value,
            key=key,
            partition=number,
            headers=list(IDLE),
            # the broker's own where topics are as hstu topics create makes them; else one that allows the watermark
            timestamp_ms=max(int(time.time() * 1000), watermark_ms),
        )
        sent.add_done_callback(_note_failure)


def _note_failure(sent: "asyncio.Future[object]") -> None:
    """Pass over a heartbeat that Kafka did not take: the next one follows."""
    if not sent.cancelled() and (error := sent.exception()):
        _log.debug("A heartbeat was not written: %r", error)
