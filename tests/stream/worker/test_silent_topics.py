"""Which heartbeats a worker writes into silent topics, when, and what they come to in a real Kafka."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from stream.config import StreamSettings
from stream.example import Heartbeat, decode
from stream.join.partition import Partition
from stream.join.reorder_buffer import NEVER_MS
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.schema.ids import partition_of
from stream.schema.record_time import IDLE, is_idle
from stream.schema.topics import EVENTS, ITEMS_HEARTBEAT_KEY, SourceTopic
from stream.worker.silent_topics import SilentTopics, target_ms
from tests.kafka_logs import fill, read, until
from tests.memory_store import MemoryStore
from tests.oracles import join
from tests.wire import Record, action, wire
from tests.worker_process import START_MS, WorkerProcess, events_of_partition, make_events, send

IMPRESSIONS, ACTIONS, ATTRIBUTES = SourceTopic
SETTINGS = StreamSettings(partitions=1, lateness_s=0, idle_timeout_s=30)


def test_what_is_silent_is_moved_to_what_the_others_have_reached() -> None:
    """To the least of the busy topics; where all are silent, to the furthest of them or of another partition."""
    assert target_ms([10, 30, NEVER_MS], {ATTRIBUTES}, 99) == 10
    assert target_ms([10, 30, NEVER_MS], {ATTRIBUTES, IMPRESSIONS}, 99) == 30
    assert target_ms([10, 30, NEVER_MS], set(SourceTopic), 20) == 30
    assert target_ms([10, 30, NEVER_MS], set(SourceTopic), 99) == 99
    assert target_ms([NEVER_MS, 30, 30], {ACTIONS}, 99) == NEVER_MS, "one that has shown nothing yet is waited for"


class Producer:
    """Writes down what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, bytes | None]] = []

    async def send(
        self, topic: str, value: bytes, *, key: bytes | None, partition: int, headers: Any, timestamp_ms: int
    ) -> Any:
        assert headers == list(IDLE)
        self.sent.append((topic, json.loads(value)["watermark"], key))
        assert timestamp_ms >= self.sent[-1][1]
        return asyncio.get_running_loop().create_future()


class Furthest:
    """Another partition has come to 90 s."""

    async def watermark_ms(self) -> int:
        return 90_000


async def all_at_end(source: SourceTopic, number: int) -> bool:
    return True


def live(offset: int, ts_ms: int) -> Record:
    """Return an action of now."""
    return Record(offset, wire(action("u", "a", ts_ms)), timestamp=ts_ms, headers=())


def test_heartbeats_come_after_the_timeout_and_only_where_they_move_time() -> None:
    """Not before, not into a replay, not once more; events begin the time anew, and heartbeats of workers do not."""

    async def run() -> None:
        producer, now_s = Producer(), [0.0]
        silent = SilentTopics(SETTINGS, producer, 1, all_at_end, Furthest(), lambda: now_s[0])  # type: ignore[arg-type]
        partition, replayed = Partition(MemoryStore({}), 0, SETTINGS), Partition(MemoryStore({}), 0, SETTINGS)
        partition.handle(ACTIONS, [live(0, 50_000)])
        replayed.handle(ACTIONS, [Record(0, wire(action("u", "a", 50_000)))])
        for now_s[0] in (0.0, 29.0):
            await silent.beat([partition, replayed])
        assert producer.sent == []
        silent.brought(ACTIONS, 0, [live(1, 60_000)])
        partition.handle(ACTIONS, [live(1, 60_000)])
        now_s[0] = 31.0
        await silent.beat([partition, replayed])
        assert producer.sent == [("impressions", 60_000, None), ("attributes", 60_000, None)]
        for source in (IMPRESSIONS, ATTRIBUTES):
            beat = Record(0, wire({"watermark": 60_000}), None, 60_000, IDLE)
            silent.brought(source, 0, [beat])
            partition.handle(source, [beat])
        await silent.beat([partition])
        assert producer.sent[2:] == [("items", 60_000, ITEMS_HEARTBEAT_KEY)]
        now_s[0] = 62.0
        await silent.beat([partition])
        assert producer.sent[3:] == [(topic, 90_000, None) for topic in EVENTS]

    asyncio.run(run())


def test_no_heartbeats_without_a_timeout() -> None:
    """0 means that every topic is waited for, whatever else comes."""

    async def run() -> None:
        producer, strict = Producer(), SETTINGS.model_copy(update={"idle_timeout_s": 0})
        silent = SilentTopics(strict, producer, 1, all_at_end, Furthest())  # type: ignore[arg-type]
        partition = Partition(MemoryStore({}), 0, strict)
        partition.handle(ACTIONS, [live(0, 50_000)])
        await silent.beat([partition])
        assert producer.sent == []

    asyncio.run(run())


@pytest.fixture
def settings(bootstrap: str, topic_prefix: str) -> StreamSettings:
    """Settings whose topics exist, with a short timeout."""
    made = StreamSettings(topic_prefix=topic_prefix, partitions=3, idle_timeout_s=1.0, lateness_s=1)
    create_topics(Kafka(bootstrap), made)
    return made


def test_a_partition_without_events_follows_the_furthest(
    bootstrap: str, settings: StreamSettings, tmp_path: Path
) -> None:
    """Events come to one partition alone: `examples` and `items` of the others come to its time all the same."""
    user = next(user for user in map(str, range(99)) if partition_of(user.encode(), 3) == 1)
    last_ms = START_MS + 50_000
    clicks = [wire(action(user, f"i{n}", START_MS + 1000 * n)) for n in range(51)]
    prefix = settings.topic_prefix

    async def reached() -> bool:
        examples, items = await read(bootstrap, prefix + "examples", 3), await read(bootstrap, prefix + "items", 3)
        beats = [[b for r in log if isinstance(b := decode(r.value), Heartbeat)] for log in examples]
        told = [json.loads(log[-1].value)["watermark"] if log else 0 for log in items]
        return all(log and log[-1].watermark_ms == last_ms - 1000 for log in beats) and min(told) == last_ms - 1000

    async def run() -> None:
        await fill(bootstrap, prefix + "actions", [(1, user.encode(), click, 0) for click in clicks])
        with WorkerProcess(settings, tmp_path, bootstrap) as worker:
            await until(reached, "all partitions at the time of the last event")
            assert worker.stop() == 0, worker.says

    asyncio.run(run())


def test_a_replay_that_pauses_is_waited_for(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """It is silent for three times the timeout: no heartbeat is written, and what follows is joined as if at once."""
    events = make_events(300)
    halves = [{topic: wires[:100] for topic, wires in events.items()}]
    halves += [{topic: wires[100:] for topic, wires in events.items()}]
    prefix = settings.topic_prefix

    async def made() -> int:
        logs = await read(bootstrap, prefix + "examples", 3)
        return sum(not isinstance(decode(record.value), Heartbeat) for log in logs for record in log)

    async def run() -> None:
        await send(bootstrap, settings, halves[0], end=False, beat_ms=START_MS)
        expected = sum(len(join(events_of_partition(events, p, 3), settings, p).examples) for p in range(3))
        with WorkerProcess(settings, tmp_path, bootstrap) as worker:
            await until(lambda: len(worker.places()) == 3, "the worker at work")
            await asyncio.sleep(3)
            await send(bootstrap, settings, halves[1], end=True)

            async def ended() -> bool:
                return await made() == expected

            await until(ended, f"{expected} examples")
            assert worker.stop() == 0, worker.says
        for topic in EVENTS:
            assert not any(is_idle(record) for log in await read(bootstrap, prefix + topic, 3) for record in log)
        assert not any(await read(bootstrap, prefix + "dead-letters", 3))

    asyncio.run(run())
