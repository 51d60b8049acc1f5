"""Logs in a real Kafka for tests, by aiokafka: make topics, fill them, read them to their ends, delete records."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from stream.schema.record_time import Headers

T = TypeVar("T")
DEADLINE_S = 40.0

Message = tuple[int, bytes | None, bytes | None, int]  # (partition, key, value, time in ms, 0: now)


async def until(done: Callable[[], bool | Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `done` returns true, and fail with its description if that takes too long."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        answer = done()
        if answer if isinstance(answer, bool) else await answer:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {deadline_s:g} s: {what}")


async def with_admin(bootstrap: str, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    """Ask an admin client something."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return await ask(admin)
    finally:
        await admin.close()


async def make_topics(bootstrap: str, names: Iterable[str], partitions: int = 2) -> None:
    """Make topics, and wait until they have leaders."""
    wanted = list(names)

    async def make(admin: AIOKafkaAdminClient) -> None:
        async def led() -> bool:
            found = await admin.describe_topics(wanted)
            leaders = [partition["leader"] for topic in found for partition in topic["partitions"]]
            return len(leaders) == len(wanted) * partitions and min(leaders) >= 0

        await admin.create_topics([NewTopic(name, partitions, 1) for name in wanted])
        await until(led, f"topics {wanted}")

    await with_admin(bootstrap, make)


async def fill(
    bootstrap: str,
    topic: str,
    messages: Sequence[Message],
    *,
    transactions: int = 0,
    abort: bool = False,
    compression: str | None = None,
    headers: Headers = (),
) -> None:
    """Send messages in order; in `transactions` transactions, each of which leaves a marker in the log, or in none."""
    options: dict[str, Any] = {"transactional_id": f"fills {topic}"} if transactions else {}
    options["compression_type"] = compression
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, **options)
    await producer.start()
    try:
        step = -(-len(messages) // (transactions or 1))
        for at in range(0, len(messages), step):
            if transactions:
                await producer.begin_transaction()
            arrivals = [
                await producer.send(
                    topic, value, key=key, partition=partition, timestamp_ms=ms or None, headers=list(headers)
                )
                for partition, key, value, ms in messages[at : at + step]
            ]
            await asyncio.gather(*arrivals)
            if transactions:
                await (producer.abort_transaction() if abort else producer.commit_transaction())
    finally:
        await producer.stop()


async def read(bootstrap: str, topic: str, partitions: int = 2) -> list[list[Any]]:
    """Return what each partition holds now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: list[list[Any]] = [[] for _ in places]
        while [place for place in places if await consumer.position(place) < ends[place]]:
            for place, records in (await consumer.getmany(timeout_ms=200)).items():
                found[place.partition] += records
        return found
    finally:
        await consumer.stop()


async def committed(bootstrap: str, group: str) -> dict[tuple[str, int], int]:
    """Return the offsets that a group has committed."""
    offsets = await with_admin(bootstrap, lambda admin: admin.list_consumer_group_offsets(group))
    return {(place.topic, place.partition): offset.offset for place, offset in offsets.items()}


async def members(bootstrap: str, group: str) -> int:
    """Return how many members a group has."""
    answers = await with_admin(bootstrap, lambda admin: admin.describe_consumer_groups([group]))
    return sum(len(described[5]) for answer in answers for described in answer.groups)


async def delete_before(bootstrap: str, topic: str, partition: int, offset: int) -> None:
    """Delete the records before an offset, as retention does."""
    what = {TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)}
    await with_admin(bootstrap, lambda admin: admin.delete_records(what))
