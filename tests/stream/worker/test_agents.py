import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from stream.config import StreamSettings
from stream.errors import BrokerError, HstuError
from stream.example import END_OF_TIME_MS, Example, Heartbeat, content, decode, encode_example
from stream.join.partition import Partition
from stream.kafka.connection import Kafka
from stream.kafka.groups import other_member
from stream.kafka.topics import create_topics, workers_group
from stream.schema.ids import partition_of
from stream.schema.topics import SourceTopic
from stream.store.rocksdb import open_store, partition_path
from stream.worker import partitions
from stream.worker.agents import run_worker
from tests.kafka_logs import fill, read, until
from tests.memory_store import MemoryStore
from tests.oracles import Wire, join
from tests.wire import Record, wire
from tests.worker_process import START_MS, WorkerProcess, events_of_partition, make_events, send

PARTITIONS = 4


@pytest.fixture
def settings(bootstrap: str, topic_prefix: str) -> StreamSettings:
    """Settings whose topics exist."""
    made = StreamSettings(topic_prefix=topic_prefix, partitions=PARTITIONS, idle_timeout_s=0)
    create_topics(Kafka(bootstrap), made)
    return made


def examples_in(log: list[Any]) -> list[Example]:
    return [example for record in log if isinstance(example := decode(record.value), Example)]


def last_beat(log: list[Any]) -> Heartbeat | None:
    """Return the furthest heartbeat: a worker that takes over with an older store repeats earlier ones."""
    beats = [beat for record in log if isinstance(beat := decode(record.value), Heartbeat)]
    return max(beats, key=lambda beat: beat.watermark_ms, default=None)


async def all_ended(bootstrap: str, settings: StreamSettings) -> bool:
    logs = await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS)
    beats = [last_beat(log) for log in logs]
    return all(beat and beat.watermark_ms > END_OF_TIME_MS - 10**6 for beat in beats)


def assert_exactly(logs: list[list[Any]], events: dict[str, list[Wire]], settings: StreamSettings) -> None:
    """Every example that the oracle makes is there, in its order; what was sent twice is the same to the byte."""
    for number, log in enumerate(logs):
        by_serial: dict[int, bytes] = {}
        for example in examples_in(log):
            message = content(encode_example(example))
            assert by_serial.setdefault(example.serial, message) == message
        joined = join(events_of_partition(events, number, PARTITIONS), settings, number)
        assert list(by_serial) == sorted(by_serial)
        assert list(by_serial.values()) == [content(encode_example(example)) for example in joined.examples]
        beat = last_beat(log)
        assert beat is not None
        assert beat.tokens == sum(len(tokens) for tokens in joined.tokens.values())


def test_kill_stop_and_rebalance_lose_and_double_nothing(
    bootstrap: str, settings: StreamSettings, tmp_path: Path
) -> None:
    """Two workers share the partitions, one is killed and comes back, one is stopped: each event counts once."""
    events = make_events(1500)
    early = {topic: wires[: len(wires) // 2] for topic, wires in events.items()}
    late = {topic: wires[len(wires) // 2 :] for topic, wires in events.items()}
    halting = settings.model_copy(update={"poll_records": 20})

    async def written() -> int:
        return sum(map(len, await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS)))

    async def some(least: int) -> bool:
        return await written() > least

    async def run() -> None:
        await send(bootstrap, settings, early, end=False)
        with contextlib.ExitStack() as stack:

            def worker() -> WorkerProcess:
                return stack.enter_context(WorkerProcess(halting, tmp_path, bootstrap))

            first = worker()
            await until(lambda: some(0), "the first examples")
            second = worker()
            await until(lambda: len(first.places()) == len(second.places()) == 3, "both workers at work")
            before = await written()
            await send(bootstrap, settings, late, end=False, beat_ms=START_MS + 1_000_000)
            await until(lambda: some(before), "more examples")
            first.kill()
            third = worker()
            await until(lambda: len(third.places()) == 3, "the third worker at work")
            assert second.stop() == 0, second.says
            await send(bootstrap, settings, {source.topic: [] for source in SourceTopic}, end=True)
            await until(lambda: all_ended(bootstrap, settings), "the end of all partitions")
            assert third.stop() == 0, third.says
        assert_exactly(await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS), events, settings)

    asyncio.run(run())


def test_workers_own_the_same_partitions_of_all_sources(
    bootstrap: str, settings: StreamSettings, tmp_path: Path
) -> None:
    """Partitions p of impressions, actions and attributes are polled by one worker; a third one gets its share."""

    async def run() -> None:
        await send(bootstrap, settings, make_events(50), end=False)
        shared = {str(p) for p in range(PARTITIONS)}
        with contextlib.ExitStack() as stack:
            workers: list[WorkerProcess] = []

            def settled() -> bool:
                places = [worker.places() for worker in workers]
                owned = [number for place in places for number in place.get("impressions", ())]
                return all(len(place) == 3 for place in places) and sorted(owned) == sorted(shared)

            for share in (4, 2, 1):
                workers.append(stack.enter_context(WorkerProcess(settings, tmp_path, bootstrap)))
                await until(settled, "all workers at work")
                for place in [worker.places() for worker in workers]:
                    assert len(place["impressions"]) >= share
                    assert place["impressions"] == place["actions"] == place["attributes"]

    asyncio.run(run())


def test_sigterm_leaves_everything_sent_and_closed(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """Exit code 0, no traceback, an empty outbox, stores that open, the dead-letters delivered byte for byte.

    In Kafka's group this worker has the name that it was given.
    """
    settings = settings.model_copy(update={"instance_id": "pod-0"})
    broken, huge = b'{"user_id": "u1", "ts": ', b"x" * 600_000

    async def run() -> None:
        await send(bootstrap, settings, make_events(200), end=True)
        await fill(bootstrap, settings.topic_prefix + "actions", [(1, b"u1", broken, 0), (1, None, huge, 0)])
        letters: list[Any] = []

        async def delivered() -> bool:
            logs = await read(bootstrap, settings.topic_prefix + "dead-letters", PARTITIONS)
            letters[:] = [letter for log in logs for letter in log]
            return len(letters) == 2 and await all_ended(bootstrap, settings)

        async def ready() -> bool:
            return worker.probe("live") == worker.probe("ready") == 200

        with WorkerProcess(settings, tmp_path, bootstrap) as worker:
            await until(delivered, "two dead-letters and the end")
            counted = worker.metrics()
            await until(ready, "readiness")
            group = workers_group(settings), "pod-0"
            assert await asyncio.to_thread(other_member, Kafka(bootstrap), *group, wait_s=0) == ""
            assert await asyncio.to_thread(other_member, Kafka(bootstrap), group[0], "pod-1", wait_s=0) != ""
            assert worker.stop() == 0
            assert "Traceback" not in worker.says
        assert sum(counted["hstu_dead_letters_total"].values()) == 2
        assert sum(counted["hstu_examples_total"].values()) > 0
        assert set(counted["hstu_lag"].values()) == {0}
        small, big = sorted(letters, key=lambda letter: len(letter.value))
        assert (small.key, small.value) == (b"u1", broken)
        headers = dict(small.headers)
        assert headers["reason"] == b"not-json"
        assert (headers["topic"], headers["partition"]) == (f"{settings.topic_prefix}actions".encode(), b"1")
        assert huge.startswith(big.value)
        assert dict(big.headers)["cut-from-bytes"] == b"600000"

    asyncio.run(run())
    for number in range(PARTITIONS):
        partition = Partition(open_store(partition_path(tmp_path, number)), number, settings)
        assert partition.outbox.unsent() == []
        partition.close()
    assert not any((tmp_path / "faust").iterdir())


def test_a_key_too_long_for_a_dead_letter_is_cut(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """What came compressed may be longer than what Kafka takes back: a header says so, and the worker goes on."""
    letters: list[Any] = []

    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type="gzip", max_request_size=16 << 20)
        await producer.start()
        await producer.send_and_wait(settings.topic_prefix + "actions", b"x" * 500_000, key=b"k" * 2_000_000)
        await producer.stop()

        async def delivered() -> bool:
            logs = await read(bootstrap, settings.topic_prefix + "dead-letters", PARTITIONS)
            letters[:] = [letter for log in logs for letter in log]
            return bool(letters)

        with WorkerProcess(settings, tmp_path, bootstrap) as worker:
            await until(delivered, "the dead-letter")
            assert worker.stop() == 0, worker.says

    asyncio.run(run())
    assert set(letters[0].key) == set(b"k")
    assert dict(letters[0].headers)["key-cut-from-bytes"] == b"2000000"
    assert len(letters[0].value) == 500_000


def test_silent_topics_are_let_go_by_heartbeats_in_the_log(
    bootstrap: str, settings: StreamSettings, tmp_path: Path
) -> None:
    """Where only impressions come, examples of every partition leave after idle_timeout; a new store makes the same."""
    impressions = make_events(1200)["impressions"]

    async def run() -> None:
        await send(bootstrap, settings, {"impressions": impressions}, end=False, replayed=False)
        patient = settings.model_copy(update={"idle_timeout_s": 1.0})
        with WorkerProcess(patient, tmp_path, bootstrap) as worker:

            async def some() -> bool:
                return all(map(examples_in, await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS)))

            await until(some, "examples of every partition")
            assert worker.stop() == 0
        before = [examples_in(log) for log in await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS)]
        (tmp_path / "anew").mkdir()
        with WorkerProcess(settings, tmp_path / "anew", bootstrap) as worker:  # strict: it writes no heartbeats

            async def again() -> bool:
                logs = await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS)
                return all(len(examples_in(log)) >= 2 * len(old) for log, old in zip(logs, before, strict=True))

            await until(again, "every example once more")
            assert worker.stop() == 0
        for log, old in zip(await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS), before, strict=True):
            assert [encode_example(example) for example in examples_in(log)] == [encode_example(e) for e in old] * 2

    asyncio.run(run())


def test_a_producer_with_another_partitioner_is_warned_of(
    bootstrap: str, settings: StreamSettings, tmp_path: Path
) -> None:
    """Users whom murmur2 would put elsewhere are reported in the log, with their partition."""
    strangers = [user for user in (f"u{i}" for i in range(40)) if partition_of(user.encode(), PARTITIONS) != 3]
    clicks = [{"user_id": user, "item_id": "a", "action": "click", "ts": START_MS} for user in strangers]

    async def run() -> None:
        await fill(bootstrap, settings.topic_prefix + "actions", [(3, None, wire(click), 0) for click in clicks])
        await send(bootstrap, settings, {source.topic: [] for source in SourceTopic}, end=True)
        with WorkerProcess(settings, tmp_path, bootstrap) as worker:

            async def said() -> bool:
                return f"Partition 3 holds {len(strangers)} users" in worker.says

            await until(said, "the warning")
            assert worker.stop() == 0

    asyncio.run(run())


def test_missing_topics_are_reported_in_a_sentence(bootstrap: str, tmp_path: Path) -> None:
    """A worker that cannot work says why, and does not start."""
    nowhere = StreamSettings(topic_prefix="nowhere-")
    with pytest.raises(BrokerError, match=r"lacks the topics nowhere-impressions"):
        run_worker(nowhere, tmp_path, Kafka(bootstrap), "w")


def test_a_hung_owner_costs_its_own_partitions_only(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """A partition whose store another process keeps open waits alone, and goes on once it is closed."""
    events, held = make_events(300), open_store(partition_path(tmp_path, 2))

    async def others_ended() -> bool:
        logs = await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS)
        beats = [last_beat(log) for number, log in enumerate(logs) if number != 2]
        return not logs[2] and all(beat and beat.watermark_ms > END_OF_TIME_MS - 10**6 for beat in beats)

    async def run() -> None:
        await send(bootstrap, settings, events, end=True)
        with WorkerProcess(settings, tmp_path, bootstrap) as worker:
            await until(others_ended, "the end of the other partitions")
            assert worker.says.count("Partition 2 waits, the others go on: The store") == 1
            assert f"p2 is open in process {os.getpid()} on " in worker.says
            held.close()
            await until(lambda: all_ended(bootstrap, settings), "the end of all partitions")
            assert worker.stop() == 0
        assert_exactly(await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS), events, settings)

    asyncio.run(run())


@pytest.mark.slow
def test_a_stopped_worker_holds_up_no_other(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """SIGSTOP beyond the session: the others go on at once and take its partitions when it is back; nothing doubles."""
    events = make_events(600)
    early = {topic: wires[: len(wires) // 2] for topic, wires in events.items()}
    late = {topic: wires[len(wires) // 2 :] for topic, wires in events.items()}

    async def run() -> None:
        await send(bootstrap, settings, early, end=False)
        with WorkerProcess(settings, tmp_path, bootstrap) as hung, WorkerProcess(settings, tmp_path, bootstrap) as well:

            def shared() -> bool:
                return [len(worker.places().get("actions", ())) for worker in (hung, well)] == [2, 2]

            await until(shared, "each at work on two partitions")
            mine = {int(place) for place in well.places()["actions"]}
            hung.signal(signal.SIGSTOP)
            await until(lambda: well.says.count("waits, the others go on") == 2, "the session's end")
            await send(bootstrap, settings, late, end=False, beat_ms=START_MS + 10_000_000)

            async def mine_done() -> bool:
                logs = await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS)
                beats = [last_beat(log) for number, log in enumerate(logs) if number in mine]
                return all(beat and beat.watermark_ms > START_MS + 9_000_000 for beat in beats)

            await until(mine_done, "what the other worker has")
            hung.signal(signal.SIGCONT)
            await send(bootstrap, settings, {source.topic: [] for source in SourceTopic}, end=True)
            await until(lambda: all_ended(bootstrap, settings), "the end of all partitions")
            assert [worker.stop() for worker in (hung, well)] == [0, 0]
        assert_exactly(await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS), events, settings)

    asyncio.run(run())


def test_two_hosts_with_a_copied_data_directory_share_the_work(
    bootstrap: str, settings: StreamSettings, tmp_path: Path
) -> None:
    """A restored backup or a cloned machine is another member: the two do not take partitions from each other."""
    events, (one, two) = make_events(600), (tmp_path / "one", tmp_path / "two")
    early = {topic: wires[: len(wires) // 2] for topic, wires in events.items()}
    late = {topic: wires[len(wires) // 2 :] for topic, wires in events.items()}
    one.mkdir()

    async def run() -> None:
        await send(bootstrap, settings, early, end=False)
        with WorkerProcess(settings, one, bootstrap) as worker:
            await until(lambda: "Partition 3 is ours" in worker.says, "the first worker at work")
            assert worker.stop() == 0
        shutil.copytree(one, two)
        with WorkerProcess(settings, one, bootstrap) as first, WorkerProcess(settings, two, bootstrap) as second:
            workers = (first, second)

            def shared() -> bool:
                return [len(worker.places().get("actions", ())) for worker in workers] == [2, 2]

            await until(shared, "each at work on two partitions")
            taken = [worker.says.count("is ours") for worker in workers]
            await asyncio.sleep(3)  # in which they took all partitions from each other three times
            assert [worker.says.count("is ours") for worker in workers] == taken
            await send(bootstrap, settings, late, end=True)
            await until(lambda: all_ended(bootstrap, settings), "the end of all partitions")
            assert [worker.stop() for worker in workers] == [0, 0]
        assert_exactly(await read(bootstrap, settings.topic_prefix + "examples", PARTITIONS), events, settings)

    asyncio.run(run())


def test_a_taken_metrics_port_is_reported(bootstrap: str, settings: StreamSettings, tmp_path: Path) -> None:
    """The sentence names the port and how to choose another."""
    taken = int(bootstrap.rsplit(":", 1)[1])
    with pytest.raises(HstuError, match=rf"127.0.0.1:{taken}: .*choose another stream.metrics_port"):
        run_worker(settings.model_copy(update={"metrics_port": taken}), tmp_path, Kafka(bootstrap), "w")


def test_only_sources_that_run_ahead_of_a_backlog_are_paused() -> None:
    """Too many waiting events pause what is ahead of the source they wait for; many more if that one has no records."""
    store: Any = MemoryStore({})
    partition = Partition(store, 0, StreamSettings(partitions=1))
    one = partitions.AssignedPartition(partition, store)
    for offset, (source, ts) in enumerate(
        [(SourceTopic.IMPRESSIONS, 9000), (SourceTopic.ATTRIBUTES, 5000), (SourceTopic.ACTIONS, 1000)] * 2
    ):
        partition.handle(source, [Record(offset, wire(_event(source, ts)))])
    backlog = {SourceTopic.ACTIONS: 7, SourceTopic.IMPRESSIONS: 1, SourceTopic.ATTRIBUTES: 1}
    silent = {**backlog, SourceTopic.ACTIONS: 0}
    assert one.ahead(5, backlog.get) == {SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES}
    assert one.ahead(6, backlog.get) == set()
    assert one.ahead(2, silent.get) == set()
    assert one.ahead(1, silent.get) == {SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES}
    partition.handle(SourceTopic.ACTIONS, [Record(9, wire({"watermark": 5000}))])
    assert one.ahead(0, backlog.get) == {SourceTopic.IMPRESSIONS}


def _event(source: SourceTopic, ts: int) -> Wire:
    return {
        SourceTopic.IMPRESSIONS: {"user_id": "u", "request_id": "r", "ts": ts, "items": ["a"]},
        SourceTopic.ACTIONS: {"user_id": "u", "item_id": "a", "action": "click", "ts": ts},
        SourceTopic.ATTRIBUTES: {"user_id": "u", "name": "n", "value": "v", "ts": ts},
    }[source]
