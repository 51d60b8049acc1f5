"""How far the furthest partition has come, whichever worker has it: the last record of each partition of `examples`."""

import logging
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.errors import FormatError
from stream.example import LAST_TS_MS, Heartbeat, decode
from stream.join.reorder_buffer import NEVER_MS
from stream.kafka.connection import Kafka

_READ_MS: Final = 1_000  # what has not come by then is read the next time
_log = logging.getLogger("hstu.worker")


class FurthestPartition:
    """Reads the ends of topic `examples`.

    Args:
        kafka: The cluster.
        topic: The topic's name in Kafka.
        partitions: How many it has.
    """

    def __init__(self, kafka: Kafka, topic: str, partitions: int) -> None:
        self._consumer = AIOKafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
        self._places = [TopicPartition(topic, number) for number in range(partitions)]
        self._started = False
        self._ends: dict[TopicPartition, int] = {}  # up to where the largest watermark is known
        self._watermark_ms = NEVER_MS

    async def watermark_ms(self) -> int:
        """Return the largest watermark of all partitions that have not reached the end of time."""
        try:
            await self._look()
        except KafkaError as error:
            _log.debug("The ends of examples could not be read: %r", error)
        return self._watermark_ms

    async def stop(self) -> None:
        """Close the client."""
        await self._consumer.stop()

    async def _look(self) -> None:
        if not self._started:
            await self._consumer.start()
            self._started = True
        ends = await self._consumer.end_offsets(self._places)
        grown = [place for place, end in ends.items() if end > self._ends.get(place, 0)]
        if not grown:
            return
        self._consumer.assign(grown)
        for place in grown:
            self._consumer.seek(place, ends[place] - 1)
        for place, records in (await self._consumer.getmany(timeout_ms=_READ_MS)).items():
            self._ends[place] = records[-1].offset + 1
            self._note(records[-1])

    def _note(self, record: Any) -> None:
        try:
            message = decode(record.value or b"")
        except FormatError:
            return
        reached_ms = message.watermark_ms if isinstance(message, Heartbeat) else message.final_ms
        if reached_ms < LAST_TS_MS:
            self._watermark_ms = max(self._watermark_ms, reached_ms)
