"""How far the furthest partition has come, by the ends of `examples`."""

import asyncio

from stream.example import END_OF_TIME_MS, Heartbeat, encode_heartbeat
from stream.join.reorder_buffer import NEVER_MS
from stream.kafka.connection import Kafka
from stream.worker.furthest_partition import FurthestPartition
from tests.kafka_logs import fill, make_topics, until


def test_the_largest_watermark_of_all_partitions_is_known(bootstrap: str, topic_prefix: str) -> None:
    """It never falls; partitions at the end of time, empty ones and foreign records do not count."""
    name = f"{topic_prefix}examples"

    async def run() -> None:
        await make_topics(bootstrap, [name], 3)
        furthest = FurthestPartition(Kafka(bootstrap), name, 3)
        try:
            assert await furthest.watermark_ms() == NEVER_MS
            for number, ms in [(0, 50), (1, END_OF_TIME_MS - 30_000), (0, 70), (0, 60)]:
                await fill(bootstrap, name, [(number, None, encode_heartbeat(Heartbeat(number, ms)), 0)])
            await fill(bootstrap, name, [(2, None, b"foreign", 0)])

            async def at(ms: int) -> bool:
                return await furthest.watermark_ms() == ms

            await until(lambda: at(60), "the last record of partition 0")
            await fill(bootstrap, name, [(2, None, encode_heartbeat(Heartbeat(2, 90)), 0)])
            await until(lambda: at(90), "that of partition 2")
            await fill(bootstrap, name, [(2, None, encode_heartbeat(Heartbeat(2, 10)), 0)])
            assert await furthest.watermark_ms() == 90
        finally:
            await furthest.stop()

    asyncio.run(run())
