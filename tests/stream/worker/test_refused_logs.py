"""A worker finds out that Kafka's log is no longer the one it has read, before it reads on."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewPartitions

from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.local_broker.node import Broker
from tests.kafka_logs import delete_before, fill, make_topics, until, with_admin
from tests.wire import REPLAYED, action, wire
from tests.worker_process import START_MS, WorkerProcess


@pytest.fixture
def settings(bootstrap: str, topic_prefix: str) -> StreamSettings:
    """Settings whose topics exist."""
    made = StreamSettings(topic_prefix=topic_prefix, partitions=1)
    create_topics(Kafka(bootstrap), made)
    return made


async def write(bootstrap: str, settings: StreamSettings, users: str, count: int) -> None:
    clicks = [wire(action(f"{users}{n}", "a", START_MS + n)) for n in range(count)]
    await fill(
        bootstrap, settings.topic_prefix + "actions", [(0, b"u", click, 0) for click in clicks], headers=REPLAYED
    )


async def read_up_to(
    bootstrap: str, settings: StreamSettings, data_dir: Path, events: int, sends: Sequence[str] = ()
) -> None:
    """Run a worker until its store has taken so many events, and there is something in the topics that it sends to."""
    with WorkerProcess(settings, data_dir, bootstrap) as worker:

        def taken() -> bool:
            counts = worker.metrics().get("hstu_events_total", {})
            return counts.get('partition="0",source="actions"', 0) >= events

        async def sent() -> bool:
            return not sends or all((await ends(bootstrap, sends)).values())

        await until(taken, f"{events} events")
        await until(sent, f"records in {sends}")
        assert worker.stop() == 0, worker.says


async def refused(bootstrap: str, settings: StreamSettings, data_dir: Path) -> str:
    """Run a worker until it ends; return what it has said."""
    with WorkerProcess(settings, data_dir, bootstrap) as worker:
        await until(lambda: worker.ended is not None, "its end")
        assert worker.ended == 1
        return worker.says


def test_kafka_power_cut(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """A log that has another content, and has grown past what was read, is refused; nothing of it is skipped."""
    name = settings.topic_prefix + "actions"

    async def run() -> str:
        await write(bootstrap, settings, "u", 30)
        await read_up_to(bootstrap, settings, tmp_path, 30)
        await read_up_to(bootstrap, settings, tmp_path, 30)  # unchanged: goes on
        await with_admin(bootstrap, lambda admin: admin.delete_topics([name]))
        await make_topics(bootstrap, [name], 1)
        await write(bootstrap, settings, "other", 60)
        return await refused(bootstrap, settings, tmp_path)

    says = asyncio.run(run())
    assert f"{name}[0] holds another record at offset 29 than the one that this data directory has read there" in says
    assert "docs/recovery.md" in says


@pytest.mark.parametrize("others", [0, 60])
def test_a_store_of_another_log_writes_nothing_into_this_one(
    bootstrap: str, settings: StreamSettings, tmp_path: Path, others: int
) -> None:
    """Under a wrong prefix: trainers there would take its heartbeats for those of their own log."""
    wrong = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}wrong-"})
    create_topics(Kafka(bootstrap), wrong)

    async def run() -> tuple[str, dict[str, int]]:
        await write(bootstrap, settings, "u", 30)
        beats = [(0, b"u", wire({"watermark": START_MS + 60_000}), 0)]
        for source in ("impressions", "attributes"):
            await fill(bootstrap, settings.topic_prefix + source, beats, headers=REPLAYED)
        await read_up_to(bootstrap, settings, tmp_path, 30, [settings.topic_prefix + "examples"])
        for source in ("impressions", "attributes") if others else ():
            await write(bootstrap, wrong, "other", others)
            await fill(bootstrap, wrong.topic_prefix + source, beats[:others], headers=[("hstu-replay", b"1")])
        says = await refused(bootstrap, wrong, tmp_path)
        sent = [wrong.topic_prefix + topic for topic in ("examples", "items", "dead-letters")]
        return says, await ends(bootstrap, sent)

    says, found = asyncio.run(run())
    assert ("holds another record" if others else "ends at offset 0") in says
    assert set(found.values()) == {0}


async def ends(bootstrap: str, topics: Sequence[str]) -> dict[str, int]:
    """Return where the logs of partition 0 end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        found = await consumer.end_offsets([TopicPartition(topic, 0) for topic in topics])
        return {place.topic: end for place, end in found.items()}
    finally:
        await consumer.stop()


def test_a_tail_that_is_lost_under_a_running_worker(tmp_path: Path) -> None:
    """Kafka is killed, its log cut and written anew beyond what was read, all within a second: still it is noticed."""
    made = StreamSettings(partitions=1)

    async def run() -> str:
        broker = Broker(tmp_path / "kafka")
        broker.start()
        try:
            create_topics(Kafka(broker.bootstrap), made)
            for n in range(30):
                await write(broker.bootstrap, made, f"u{n}-", 1)
            (tmp_path / "data").mkdir()
            with WorkerProcess(made, tmp_path / "data", broker.bootstrap) as worker:

                def taken() -> bool:
                    counts = worker.metrics().get("hstu_events_total", {})
                    return counts.get('partition="0",source="actions"', 0) >= 30

                await until(taken, "30 events")
                worker.signal(signal.SIGSTOP)
                broker.kill()
                log = next((tmp_path / "kafka").rglob("actions-0/*.log"))
                os.truncate(log, log.stat().st_size * 2 // 3)
                broker.start()
                await write(broker.bootstrap, made, "new", 60)
                worker.signal(signal.SIGCONT)
                await until(lambda: worker.ended is not None, "its end")
                return worker.says
        finally:
            broker.stop()

    assert "actions[0] holds another record at offset 29" in asyncio.run(run())


def test_what_retention_deletes_under_a_worker_that_hangs_is_missed(
    bootstrap: str, settings: StreamSettings, tmp_path: Path
) -> None:
    """Its client goes on at the log's new beginning by itself; whether records came behind that or not."""

    async def run() -> str:
        await write(bootstrap, settings, "u", 30)
        with WorkerProcess(settings, tmp_path, bootstrap) as worker:

            def taken() -> bool:
                counts = worker.metrics().get("hstu_events_total", {})
                return counts.get('partition="0",source="actions"', 0) >= 30

            await until(taken, "30 events")
            worker.signal(signal.SIGSTOP)
            await asyncio.sleep(1.0)  # Kafka answers what was asked before
            await write(bootstrap, settings, "v", 50)
            await delete_before(bootstrap, settings.topic_prefix + "actions", 0, 80)
            worker.signal(signal.SIGCONT)
            await until(lambda: worker.ended is not None, "its end")
            return worker.says

    assert "has deleted 50 records unread" in asyncio.run(run())


def test_retention_is_told_apart(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """Deleted up to what was read, it goes on; deleted beyond, the sentence says how much is gone."""
    name = settings.topic_prefix + "actions"

    async def run() -> str:
        await write(bootstrap, settings, "u", 30)
        await read_up_to(bootstrap, settings, tmp_path, 30)
        await delete_before(bootstrap, name, 0, 30)
        await write(bootstrap, settings, "v", 5)
        await read_up_to(bootstrap, settings, tmp_path, 35)
        await write(bootstrap, settings, "w", 5)
        await delete_before(bootstrap, name, 0, 37)
        return await refused(bootstrap, settings, tmp_path)

    assert "has deleted 2 records unread. Raise the topic's retention" in asyncio.run(run())


def test_rescale(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """Partitions raised under a running worker end it within seconds, with a sentence that deletes nothing."""
    name = settings.topic_prefix + "actions"

    async def run() -> str:
        with WorkerProcess(settings, tmp_path, bootstrap) as worker:
            await until(lambda: len(worker.places()) == 3, "the worker at work")
            await with_admin(bootstrap, lambda admin: admin.create_partitions({name: NewPartitions(2)}))
            await until(lambda: worker.ended is not None, "its end", 20)
            return worker.says

    says = asyncio.run(run())
    assert f"The topic {name} has 2 partitions now, and had 1 when this began" in says
    assert "Nothing is lost" in says
    assert "Traceback" not in says
