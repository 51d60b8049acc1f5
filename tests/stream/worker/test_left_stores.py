"""A store whose partition another host's worker has taken over: marked, not read any more, never deleted."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.errors import BrokerError, StoreError
from stream.schema.topics import SourceTopic
from stream.store.reader import SequenceReader
from stream.store.rocksdb import partition_path
from stream.store.standby import left_at, mark_left, mark_standby
from stream.worker.left_stores import LeftStores
from stream.worker.partitions import AssignedPartitions
from tests.stream.worker.test_backups import SETTINGS, opened, partitions_in
from tests.stream.worker.test_partitions import clicks

LOCKED = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"


class Host:
    """A data directory whose store has read 100 actions, and what its worker sees of the group."""

    def __init__(self, folder: Path, settings: StreamSettings = SETTINGS) -> None:
        self.path = partition_path(folder, 0)
        self.partitions: AssignedPartitions = partitions_in(SETTINGS, folder)
        self.read = 100
        self._left = LeftStores(settings, folder, self.partitions, self._committed)

    def _committed(self) -> Mapping[tuple[str, int], int]:
        return {("actions", 0): self.read, ("impressions", 0): 0}

    async def open(self) -> None:
        await opened(self.partitions)
        await self.partitions.handle(SourceTopic.ACTIONS, 0, clicks(100))

    async def look(self) -> list[str]:
        """Return what lies beside and in the place of the store once the worker has looked."""
        await self._left.look()
        return sorted(each.name for each in self.path.parent.iterdir())


def test_a_store_that_was_left_is_marked(tmp_path: Path) -> None:
    """Not while it is open here, nor before the group has read more; and it comes back with its partition."""

    async def run() -> None:
        host = Host(tmp_path)
        await host.open()
        host.read = 101
        assert await host.look() == ["p0", "p0.owner"]
        await host.partitions.revoked([("actions", 0)])
        host.read = 100
        assert await host.look() == ["p0", "p0.owner"]
        host.read = 101
        with closing(SequenceReader(tmp_path, SETTINGS)) as reader:
            assert reader.tokens("u1", 5) is not None
            assert await host.look() == ["p0", "p0.left", "p0.owner"]
            with pytest.raises(StoreError, match=r"p0 was left, as was seen at 20.*another host.*stream.peer_token"):
                reader.tokens("u1", 5)
            assert reader.first_users(5) == []
            await host.open()
            assert await host.look() == ["p0", "p0.owner"]
            assert reader.tokens("u1", 5) is not None
        await host.partitions.close()

    asyncio.run(run())


def test_a_store_that_is_used_is_not_left(tmp_path: Path) -> None:
    """By another worker of this data directory, or by backups of which it stands by; a mark of before goes."""

    async def run() -> None:
        host = Host(tmp_path)
        await host.open()
        await host.partitions.close()
        mark_left(host.path)
        host.read = 101
        lock = [sys.executable, "-c", LOCKED, str(host.path / "LOCK")]
        with subprocess.Popen(lock, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout
            other.stdout.readline()
            assert await host.look() == ["p0", "p0.owner"]
            other.communicate(b"\n")
        mark_standby(host.path)
        follows = SETTINGS.model_copy(update={"standby": True})
        assert await Host(tmp_path, follows).look() == ["p0", "p0.owner", "p0.standby"]
        without = Host(tmp_path)
        without.read = 101
        assert await without.look() == ["p0", "p0.left", "p0.owner"]

    asyncio.run(run())


def test_a_store_that_was_left_before_any_event_is_marked(tmp_path: Path) -> None:
    """It has read nothing, and would say of every user that there is none."""

    async def run() -> None:
        host = Host(tmp_path)
        await opened(host.partitions)
        await host.partitions.close()
        host.read = 0
        assert await host.look() == ["p0", "p0.owner"]
        host.read = 1
        assert await host.look() == ["p0", "p0.left", "p0.owner"]

    asyncio.run(run())


def test_a_look_changes_no_folder_and_is_of_each_store_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An empty folder stays one; a damaged store is named, and the next one gets its mark."""

    async def run() -> None:
        host = Host(tmp_path, SETTINGS.model_copy(update={"partitions": 3}))
        await host.open()
        await host.partitions.close()
        (host.path.parent / "p1").mkdir()
        (host.path.parent / "p2").mkdir()
        (host.path.parent / "p2" / "000001.sst").touch()
        host.read = 101
        assert await host.look() == ["p0", "p0.left", "p0.owner", "p1", "p2"]
        assert not list((host.path.parent / "p1").iterdir())

    asyncio.run(run())
    assert "Whether another host has taken over partition 2 cannot be known" in caplog.text


def test_a_look_that_fails_ends_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once; nothing is marked on no evidence."""

    def refuse(host: Host) -> Mapping[tuple[str, int], int]:
        raise BrokerError("Kafka does not answer.")

    async def run() -> None:
        monkeypatch.setattr(Host, "_committed", refuse)
        host = Host(tmp_path)
        await host.open()
        await host.partitions.close()
        for _ in range(2):
            assert await host.look() == ["p0", "p0.owner"]
        assert left_at(host.path) is None

    asyncio.run(run())
    assert caplog.text.count("Kafka does not answer.") == 1
