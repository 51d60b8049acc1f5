"""Workers restore stores that they lack from backups and read on; what they cannot restore waits alone."""

import asyncio
import contextlib
import threading
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stream.backup.partition_backups import PartitionBackups
from stream.backup.place import Place
from stream.config import StreamSettings
from stream.errors import BackupError, StoreBusyError, StoreDamagedError, StoreError
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.operations.store_logs import RefuseUnlike
from stream.peers.cluster_reader import open_sequences
from stream.schema.topics import SourceTopic
from stream.store.rocksdb import open_store, partition_path
from stream.worker import backups
from stream.worker.backups import WorkerStores
from stream.worker.partitions import AssignedPartition, AssignedPartitions
from tests.kafka_logs import read, until
from tests.stream.backup.stores import flip_a_bit
from tests.stream.worker.test_agents import PARTITIONS, all_ended, assert_exactly, examples_in
from tests.stream.worker.test_partitions import Producer, alike, clicks
from tests.worker_process import START_MS, WorkerProcess, make_events, send

SETTINGS = StreamSettings(partitions=1, lateness_s=0, gather_targets=1)


@pytest.fixture
def settings(tmp_path: Path) -> StreamSettings:
    return SETTINGS.model_copy(update={"backup_url": str(tmp_path / "backups")})


def partitions_in(
    settings: StreamSettings, folder: Path, unlike: RefuseUnlike = alike, cluster: str = "a"
) -> AssignedPartitions:
    producer: Any = Producer()
    return AssignedPartitions(settings, folder, producer, [].append, unlike, cluster)


async def opened(partitions: AssignedPartitions) -> AssignedPartition:
    """Open partition 0, as often as it has to be asked for."""

    async def is_open() -> bool:
        with contextlib.suppress(StoreBusyError):
            await partitions.open("actions", 0)
            return True
        return False

    await until(is_open, "the partition")
    return partitions[0]


def test_a_worker_backs_up_and_another_goes_on(settings: StreamSettings, tmp_path: Path) -> None:
    """The second has a data directory of its own, and reads only what came after the backup."""

    async def run() -> None:
        first = partitions_in(settings, tmp_path / "first")
        await opened(first)
        await first.handle(SourceTopic.ACTIONS, 0, clicks(100))
        await first.stores.back_up(first)
        await first.handle(SourceTopic.ACTIONS, 0, clicks(120))
        assert (first.stores.age_s(0) or 99) < 99
        second = partitions_in(settings, tmp_path / "second")
        taken = await opened(second)
        assert await second.open("actions", 0) == 100
        await second.handle(SourceTopic.ACTIONS, 0, clicks(120))
        assert taken.partition.counters.events == first[0].partition.counters.events
        await asyncio.gather(first.close(), second.close())

    asyncio.run(run())


def test_a_partition_waits_while_it_is_restored(
    settings: StreamSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop goes on; a partition that is taken away meanwhile leaves its store free for others."""
    release, fetch = threading.Event(), PartitionBackups.fetch

    def slow(*arguments: Any) -> int:
        assert release.wait(10)
        return fetch(*arguments)

    async def run() -> None:
        first, second = partitions_in(settings, tmp_path / "first"), partitions_in(settings, tmp_path / "second")
        await opened(first)
        await first.handle(SourceTopic.ACTIONS, 0, clicks(100))
        await first.stores.back_up(first)
        monkeypatch.setattr(PartitionBackups, "fetch", slow)
        monkeypatch.setattr(backups, "_QUICK_S", 0.01)
        for _ in range(2):
            with pytest.raises(StoreBusyError, match=f"p0 is being compared .* or restored: {tmp_path / 'backups'}"):
                await second.open("actions", 0)
        await second.revoked([("actions", 0)])
        release.set()
        await until((tmp_path / "second" / "store" / "p0.owner").exists, "the end of the restoration")
        await until(lambda: _is_free(partition_path(tmp_path / "second", 0)), "the store")
        await asyncio.gather(first.close(), second.close())

    asyncio.run(run())


def _is_free(path: Path) -> bool:
    with contextlib.suppress(StoreBusyError):
        open_store(path).close()
        return True
    return False


def test_a_partition_waits_for_backups_that_cannot_be_read(
    settings: StreamSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no store: it would else be built from a log whose beginning Kafka may have deleted."""
    monkeypatch.setattr(backups, "_AGAIN_S", 0.05)

    def away(place: Place) -> dict[str, int]:
        raise BackupError("The backups are away.")

    async def run() -> None:
        partitions = partitions_in(settings, tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(Place, "sizes", away)
            for _ in range(2):
                with pytest.raises(
                    StoreBusyError, match=r"no whole store .*p0, and none can be restored: The backups are"
                ):
                    await partitions.open("actions", 0)
        assert (await opened(partitions)).partition.fresh
        await partitions.close()

    asyncio.run(run())


@pytest.mark.parametrize("backed_up", [True, False])
def test_damage_in_what_waits_is_no_event_less(
    settings: StreamSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture, backed_up: bool
) -> None:
    """The store opens, and its events that wait cannot be read: its backup takes its place, or the worker stops."""
    used = settings if backed_up else SETTINGS

    async def run() -> None:
        first = partitions_in(settings, tmp_path)
        await opened(first)
        await first.handle(SourceTopic.ACTIONS, 0, clicks(900))
        await first.stores.back_up(first)
        await first.close()
        flip_a_bit(partition_path(tmp_path, 0))
        again = partitions_in(used, tmp_path)
        if backed_up:
            assert (await opened(again)).partition.waiting == 900
            assert "p0 is damaged: Corruption: " in caplog.text
            assert "It was replaced." in caplog.text
        else:
            with pytest.raises(StoreDamagedError, match=r"p0 is damaged: Corruption: .*or delete this folder"):
                await opened(again)
        await again.close()

    asyncio.run(run())


def test_a_backup_that_fails_is_named_and_the_work_goes_on(
    settings: StreamSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is made as if nothing had been."""

    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    async def run() -> None:
        partitions = partitions_in(settings, tmp_path)
        await opened(partitions)
        await partitions.handle(SourceTopic.ACTIONS, 0, clicks(10))
        (tmp_path / "backups").rename(tmp_path / "away")
        (tmp_path / "backups").touch()
        await partitions.stores.back_up(partitions)
        assert "Partition 0 is not backed up: The backups in" in caplog.text
        (tmp_path / "backups").unlink()
        (tmp_path / "away").rename(tmp_path / "backups")
        with monkeypatch.context() as patched:
            patched.setattr(PartitionBackups, "save", gone)
            await partitions.stores.back_up(partitions)
        assert "Partition 0 is not backed up: [Errno 2] No such file" in caplog.text
        await partitions.stores.back_up(partitions)
        await partitions.close()
        await partitions.stores.back_up([])

    asyncio.run(run())
    assert list((tmp_path / "backups" / "p0").glob("backup-*.json"))


def test_a_fault_in_backups_ends_no_worker(
    settings: StreamSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises: opening waits or goes on with what is here, and the age grows."""

    def fault(*_: object, **__: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(backups, "_AGAIN_S", 0.05)

    async def run() -> None:
        partitions = partitions_in(settings, tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(PartitionBackups, "claim", fault)
            with pytest.raises(StoreBusyError, match="none can be restored: a fault"):
                await partitions.open("actions", 0)
        await opened(partitions)
        await partitions.handle(SourceTopic.ACTIONS, 0, clicks(10))
        monkeypatch.setattr(PartitionBackups, "save", fault)
        before_s = partitions.stores.age_s(0)
        await partitions.stores.back_up(partitions)
        assert "Partition 0 is not backed up: a fault" in caplog.text
        assert (partitions.stores.age_s(0) or 0) > (before_s or 99)
        monkeypatch.setattr(backups, "restore", fault)
        await partitions.stores.follow(lambda number: False)
        assert "Partition 0 does not stand by: a fault" in caplog.text
        await partitions.close()
        monkeypatch.setattr(PartitionBackups, "claim", fault)
        again = partitions_in(settings, tmp_path)
        await opened(again)
        assert "Partition 0 goes on with the store that is here: a fault" in caplog.text
        await again.close()

    asyncio.run(run())


def test_the_age_is_that_of_the_newest_whole_backup(settings: StreamSettings, tmp_path: Path) -> None:
    """Also after a restart, and where the newest one is damaged; one that has it all is as good as new."""

    async def run() -> None:
        first = partitions_in(settings, tmp_path)
        await opened(first)
        await first.handle(SourceTopic.ACTIONS, 0, clicks(10))
        first.stores._backups[0]._wall = lambda: time.time() - 5000
        await first.stores.back_up(first)
        assert (first.stores.age_s(0) or 0) < 100
        await first.close()
        second = partitions_in(settings, tmp_path)
        await opened(second)
        assert 5000 <= (second.stores.age_s(0) or 0) < 5100
        await second.stores.back_up(second)
        assert (second.stores.age_s(0) or 0) < 100
        await second.close()

    asyncio.run(run())


def test_a_closed_partition_is_not_backed_up(settings: StreamSettings, tmp_path: Path) -> None:
    """One that was revoked while others were being backed up is passed over."""

    async def run() -> None:
        partitions = partitions_in(settings, tmp_path)
        assigned = await opened(partitions)
        await partitions.revoked([("actions", 0)])
        await partitions.stores.back_up([assigned])
        await partitions.close()

    asyncio.run(run())
    assert not list((tmp_path / "backups" / "p0").glob("backup-*.json"))


def test_a_standby_takes_over_without_copying(
    settings: StreamSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It follows the backups of what others have, leaves alone what is its own or open here, and then has it all."""

    async def run() -> None:
        first, second = partitions_in(settings, tmp_path / "first"), partitions_in(settings, tmp_path / "second")
        await opened(first)
        for count in (100, 120):
            await first.handle(SourceTopic.ACTIONS, 0, clicks(count))
            await first.stores.back_up(first)
            await first.stores.follow(lambda number: False)
            await second.stores.follow(lambda number: True)
            assert (tmp_path / "second" / "store").exists() == (count > 100)
            await second.stores.follow(lambda number: False)
        assert not list((tmp_path / "first" / "store").glob(".p0.backup"))
        monkeypatch.setattr(PartitionBackups, "fetch", lambda *_: pytest.fail("there is nothing to be copied"))
        await opened(second)
        assert await second.open("actions", 0) == 120
        await asyncio.gather(first.close(), second.close())

    asyncio.run(run())


def test_a_server_without_a_token_reads_no_store_that_stands_by(settings: StreamSettings, tmp_path: Path) -> None:
    """It would answer as of the last backup; it reads it once a worker of this host has the partition."""

    async def run() -> None:
        first, second = partitions_in(settings, tmp_path / "first"), partitions_in(settings, tmp_path / "second")
        await opened(first)
        await first.handle(SourceTopic.ACTIONS, 0, clicks(100))
        await first.stores.back_up(first)
        await first.stores.follow(lambda number: False)
        await second.stores.follow(lambda number: False)
        with closing(open_sequences(tmp_path / "first", settings, None)) as reader:
            assert reader.tokens("u1", 5) is not None
        with closing(open_sequences(tmp_path / "second", settings, None)) as reader:
            with pytest.raises(StoreError, match=r"p0 only stands by .*; set stream.peer_token_file"):
                reader.tokens("u1", 5)
            await first.close()
            await opened(second)
            assert reader.tokens("u1", 5) is not None
        await second.close()

    asyncio.run(run())


def test_without_a_place_for_backups_stores_are_opened_as_they_are(tmp_path: Path) -> None:
    async def run() -> None:
        stores = WorkerStores(SETTINGS, tmp_path, alike)
        store = await stores.open(0)
        assert stores.age_s(0) is None
        store.close()
        await stores.close()

    asyncio.run(run())


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["stopped", "killed"])
def test_another_host_takes_over_from_the_backup(
    killed: bool, bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """The newest backup is damaged: the one before serves. Each event counts once, and few are read twice.

    A worker that was killed keeps its partitions until its session has timed out, 10 s later.
    """
    url, folders = tmp_path / "backups", [tmp_path / "first", tmp_path / "second"]
    settings = StreamSettings(topic_prefix=topic_prefix, partitions=PARTITIONS, idle_timeout_s=0, action_window_s=20)
    settings = settings.model_copy(update={"backup_url": str(url), "backup_s": 0.2})
    create_topics(Kafka(bootstrap), settings)
    events = make_events(300)
    ends = [0, 0.6, 0.8, 1.0]
    parts = [
        {topic: wires[int(start * len(wires)) : int(end * len(wires))] for topic, wires in events.items()}
        for start, end in pairwise(ends)
    ]
    for folder in folders:
        folder.mkdir()

    def newest() -> list[Path]:
        return [max(url.glob(f"{topic_prefix}p{number}/backup-*.json"), default=url) for number in range(PARTITIONS)]

    def read_so_far(count: int) -> bool:
        return sum(int(path.stem[-20:]) for path in newest() if path != url) == count

    async def run() -> None:
        records = 0
        with WorkerProcess(settings, folders[0], bootstrap) as first:
            for part, end in zip(parts[:2], ends[1:], strict=False):
                await send(bootstrap, settings, part, end=False, beat_ms=START_MS + int(300_000 * end) - 30_000)
                records += sum(map(len, part.values())) + 3 * PARTITIONS
                await until(lambda: read_so_far(records), "backups of all records")  # noqa: B023
            assert (first.kill() if killed else first.stop()) in (None, 0)
        before = sum(map(len, map(examples_in, await read(bootstrap, topic_prefix + "examples", PARTITIONS))))
        for path in newest():
            path.write_bytes(path.read_bytes()[:-1])
        await send(bootstrap, settings, parts[2], end=True)
        with WorkerProcess(settings, folders[1], bootstrap) as second:
            await until(lambda: all_ended(bootstrap, settings), "the end of all partitions")
            assert second.stop() == 0, second.says
        assert second.says.count("is damaged or half written") == PARTITIONS
        assert second.says.count("is restored from the backup of") == PARTITIONS
        logs = await read(bootstrap, topic_prefix + "examples", PARTITIONS)
        assert_exactly(logs, events, settings)
        found = [(example.partition, example.serial) for log in logs for example in examples_in(log)]
        assert 0 < len(found) - len(set(found)) < 0.7 * before

    asyncio.run(run())
