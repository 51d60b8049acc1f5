"""Options are ours alone, and a log of the last writes that is damaged is told from one that was cut off."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from stream.errors import StoreDamagedError
from stream.join.partition import Partition
from stream.store.rocksdb import open_secondary, open_store, read_meta
from tests.memory_store import MemoryStore
from tests.stream.backup.stores import SETTINGS, make_log, read_on

LOG = make_log(60)


def _killed(path: Path) -> Path:
    """Return a store as `kill -9` leaves it: much of it only in its log."""
    with closing(open_store(path / "p0")) as store:
        read_on(store, LOG, 20)
    with closing(open_store(path / "p0")) as store:
        read_on(store, LOG, 60)
        shutil.copytree(path / "p0", path / "killed" / "p0")
    return path / "killed" / "p0"


def _log_of(path: Path) -> Path:
    return max(path.glob("*.log"), key=lambda file: file.stat().st_size)


def test_options_that_lie_beside_a_store_are_not_read(tmp_path: Path) -> None:
    """Whatever is in those files, a store opens, for writing and for reading."""
    path = tmp_path / "p0"
    with closing(open_store(path)) as store:
        store.write([(b"k", b"1")])
    for change in (lambda text: text.replace(b"BlockBasedTable", b"BlockBasedTablf"), lambda _: b"[", lambda _: b""):
        for file in path.glob("OPTIONS-*"):
            file.write_bytes(change(file.read_bytes()))
        with closing(open_secondary(path, tmp_path / "scratch")) as secondary:
            assert secondary.get(b"k") == b"1"
        assert read_meta(path) is None
        with closing(open_store(path)) as store:
            assert store.get(b"k") == b"1"


def test_a_log_that_was_cut_off_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The batch that a crash cut off has not been written; nobody is warned of it."""
    path = _killed(tmp_path)
    log = _log_of(path)
    os.truncate(log, log.stat().st_size - 9)
    with closing(open_secondary(path, tmp_path / "scratch")) as secondary, closing(open_store(path)) as store:
        for each in (secondary, store):
            assert sum(Partition(each, 0, SETTINGS).next_offsets) == 160
    assert not caplog.text


def test_a_damaged_log_is_said_and_read_from_kafka_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Readers refuse it and name the way on; a worker warns, goes back, and comes to the same state."""
    path = _killed(tmp_path)
    log = _log_of(path)
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    for read in (lambda: open_secondary(path, tmp_path / "scratch"), lambda: open_secondary(path, tmp_path / "again")):
        with pytest.raises(StoreDamagedError, match=r"in its log of the last writes alone: .*start its worker again"):
            read()
    with pytest.raises(StoreDamagedError):
        read_meta(path)
    with closing(open_store(path)) as store:
        assert f"the last writes of the store {path} is damaged" in caplog.text
        assert 60 <= sum(Partition(store, 0, SETTINGS).next_offsets) < 180
        found, wanted = read_on(store, LOG, 60), read_on(MemoryStore({}), LOG, 60)  # type: ignore[arg-type]
        assert (found.digest, found.counters) == (wanted.digest, wanted.counters)
    caplog.clear()
    with closing(open_store(path)) as store:
        assert sum(Partition(store, 0, SETTINGS).next_offsets) == 180
    assert not caplog.text


def test_what_a_killed_backup_left_goes_with_the_next_opening(tmp_path: Path) -> None:
    """Links to tables that the store has replaced would keep users who are forgotten since."""
    with closing(open_store(tmp_path / "p0")) as store:
        store.checkpoint(tmp_path / ".p0.backup")
    open_store(tmp_path / "p0").close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p0", "p0.owner"]
