"""A store that is restored goes on to what it would have become; a damaged backup is passed over."""

import logging
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from stream.backup import partition_backups, restore
from stream.backup.partition_backups import PartitionBackups
from stream.backup.place import Place
from stream.backup.restore import open_newest
from stream.errors import BackupError, StoreBusyError, StoreDamagedError
from stream.example import Example, decode
from stream.join.partition import Partition
from stream.store.rocksdb import open_store
from tests.memory_store import MemoryStore
from tests.stream.backup.stores import SETTINGS, backups_in, flip_a_bit, make_log, read_on, save

LOG = make_log(300)


@pytest.fixture
def backed_up(tmp_path: Path) -> Path:
    """Return a place that holds backups after 100 and after 200 records of each source."""
    backups = backups_in(tmp_path / "backups")
    with closing(open_store(tmp_path / "first" / "p0")) as store:
        for end in (100, 200):
            read_on(store, LOG, end)
            save(store, backups, tmp_path / "aside")
    return tmp_path / "backups"


def of_whole_log() -> Partition:
    """Return the partition that has read all in one go."""
    return read_on(MemoryStore({}), LOG, 300)  # type: ignore[arg-type]


def assert_same(path: Path) -> None:
    """Check that a store has become what one is that was never lost."""
    with closing(open_store(path)) as store:
        found, wanted = Partition(store, 0, SETTINGS), of_whole_log()
        assert (found.digest, found.counters) == (wanted.digest, wanted.counters)
        assert examples_of(found) == examples_of(wanted)


def examples_of(partition: Partition) -> list[bytes]:
    """Return the examples that wait to be sent: how often there are heartbeats depends on batches."""
    return [each.value for each in partition.outbox.unsent() if isinstance(decode(each.value), Example)]


def test_a_restored_store_reads_on_to_the_same_end(backed_up: Path, tmp_path: Path) -> None:
    """From a new folder: the newest backup, then the rest of the log; digest, counters and outbox are equal."""
    path = tmp_path / "second" / "p0"
    with closing(open_newest(path, backups_in(backed_up))) as store:
        assert Partition(store, 0, SETTINGS).next_offsets == [200, 200, 200]
        read_on(store, LOG, 300)
    assert_same(path)


def test_a_store_that_is_older_is_replaced_and_one_that_is_newer_is_not(backed_up: Path, tmp_path: Path) -> None:
    """Unchanged tables of the older one are linked, not copied."""
    older, newer = tmp_path / "older" / "p0", tmp_path / "newer" / "p0"
    shutil.copytree(tmp_path / "first" / "p0", newer)
    for path, end in ((older, 100), (newer, 300)):
        with closing(open_store(path)) as store:
            read_on(store, LOG, end)
    with closing(open_newest(older, backups_in(backed_up))) as store:
        assert Partition(store, 0, SETTINGS).next_offsets == [200, 200, 200]
    with closing(open_newest(newer, backups_in(backed_up))) as store:
        assert Partition(store, 0, SETTINGS).next_offsets == [300, 300, 300]
    assert sorted(path.name for path in older.parent.iterdir()) == [".p0.lock", "p0", "p0.owner"]


def test_a_restore_by_hand_keeps_the_store_that_it_replaces(backed_up: Path, tmp_path: Path) -> None:
    """Nobody has compared the backup with Kafka; each is kept, until somebody deletes it."""
    path = tmp_path / "older" / "p0"
    for end, name in ((100, "p0.replaced"), (50, "p0.replaced-1")):
        with closing(open_store(path)) as store:
            read_on(store, LOG, end)
        assert restore.restore(path, backups_in(backed_up), keeps=True)
        with closing(open_store(path)) as store:
            assert Partition(store, 0, SETTINGS).next_offsets == [200, 200, 200]
        with closing(open_store(path.with_name(name))) as store:
            assert Partition(store, 0, SETTINGS).next_offsets == [end, end, end]
        shutil.rmtree(path)


def test_tables_that_are_here_already_are_not_copied(backed_up: Path, tmp_path: Path) -> None:
    """A partition that comes back finds most of its store where it was."""
    backups, path = backups_in(backed_up), tmp_path / "first" / "p0"
    newest, before = backups.newest_first()
    backups.fetch(before, tmp_path / "old", None)
    copied = backups.fetch(newest, tmp_path / "again", tmp_path / "old")
    shared = {file.xxh3 for file in newest.files if file.name.endswith(".sst")} & {file.xxh3 for file in before.files}
    assert shared
    assert copied == newest.size - sum(file.bytes for file in newest.files if file.xxh3 in shared)
    assert path.exists()


def cut_off(place: Path) -> None:
    place.write_bytes(place.read_bytes()[:-1])


def flip(place: Path) -> None:
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)


@pytest.mark.parametrize("harm", [cut_off, flip, Path.unlink])
@pytest.mark.parametrize("what", ["manifest", "table"])
def test_a_damaged_backup_is_passed_over(
    harm: Callable[[Path], None], what: str, backed_up: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The one before is restored, with a sentence; the end is the same."""
    backups = backups_in(backed_up)
    newest, before = backups.newest_first()
    own = {file.stored for file in newest.files if file.name.endswith(".sst")} - {file.stored for file in before.files}
    harm(backed_up / "p0" / (backups.names()[0] if what == "manifest" else f"data/{min(own)}"))
    path = tmp_path / "second" / "p0"
    with closing(open_newest(path, backups_in(backed_up))) as store:
        assert Partition(store, 0, SETTINGS).next_offsets == [100, 100, 100]
        read_on(store, LOG, 300)
    assert_same(path)
    assert not list(path.parent.glob(".p0.restored"))
    missing = harm is Path.unlink and what == "manifest"
    assert ("passed over" in caplog.text) is not missing


def test_a_backup_of_a_damaged_store_is_passed_over(
    backed_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was made before anybody looked: its bytes are as they were written, and the one before is restored."""
    monkeypatch.setattr(partition_backups, "damaged_tables", lambda files: [])
    with closing(open_store(tmp_path / "first" / "p0")) as store:
        read_on(store, LOG, 220)
        store.checkpoint(tmp_path / "aside")
    flip_a_bit(tmp_path / "aside")
    backups_in(backed_up).save(tmp_path / "aside")
    monkeypatch.undo()
    path = tmp_path / "second" / "p0"
    with closing(open_newest(path, backups_in(backed_up))) as store:
        assert Partition(store, 0, SETTINGS).next_offsets == [200, 200, 200]
        read_on(store, LOG, 300)
    assert_same(path)
    assert "The backup of 660 records in" in caplog.text
    assert "was made of a damaged store" in caplog.text


def lose_a_table(path: Path) -> None:
    max(path.glob("*.sst"), key=lambda file: file.stat().st_size).unlink()


def test_a_damaged_store_is_replaced(backed_up: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By a worker if it cannot be opened, by hand also if only reading all of it shows the damage, which a log says."""
    path = tmp_path / "first" / "p0"
    with closing(open_store(path)) as store:
        read_on(store, LOG, 240)
    (path / "999999.sst").write_bytes(b"a table that a compaction has not finished")
    assert restore.restore(path, backups_in(backed_up), thorough=True) is None
    flip_a_bit(path)
    assert "600 records read" in (restore.restore(path, backups_in(backed_up), thorough=True) or "")
    assert "p0 is damaged: " in caplog.text
    caplog.clear()
    lose_a_table(path)
    with closing(open_newest(path, backups_in(backed_up))) as store:
        read_on(store, LOG, 300)
    assert_same(path)
    assert "p0 is damaged: " in caplog.text
    assert sorted(each.name for each in path.parent.iterdir()) == [".p0.lock", "p0", "p0.owner"]


def test_a_damaged_store_without_a_backup_is_refused(tmp_path: Path) -> None:
    """Nothing in it is touched, and the sentence says that there is no backup."""
    path = tmp_path / "p0"
    with closing(open_store(path)) as store:
        read_on(store, LOG, 100)
    lose_a_table(path)
    for attempt in (open_newest, restore.restore):
        with pytest.raises(StoreDamagedError, match=r"p0 is damaged: .*There is no whole backup of it in .*backups/p0"):
            attempt(path, backups_in(tmp_path / "backups"))
    assert list(path.glob("MANIFEST*"))


def test_what_cannot_be_restored_leaves_no_copy(backed_up: Path, tmp_path: Path) -> None:
    """Of users who may be forgotten: neither where every backup is damaged, nor where a process was killed at it."""
    for table in (backed_up / "p0" / "data").iterdir():
        cut_off(table)
    path = tmp_path / "second" / "p0"
    (path.parent / ".p0.restored").mkdir(parents=True)
    assert restore.restore(path, backups_in(backed_up)) is None
    assert [each.name for each in path.parent.iterdir()] == [".p0.lock"]


def test_without_a_whole_backup_a_store_is_built_from_the_log(backed_up: Path, tmp_path: Path) -> None:
    """As if there were no backups; and the next one is whole."""
    for table in (backed_up / "p0" / "data").iterdir():
        cut_off(table)
    backups, path = backups_in(backed_up), tmp_path / "second" / "p0"
    with closing(open_newest(path, backups)) as store:
        assert Partition(store, 0, SETTINGS).fresh
        read_on(store, LOG, 300)
        save(store, backups, tmp_path / "aside")
    assert_same(path)
    backups.verify(next(backups.newest_first()))


def test_backups_that_cannot_be_read_stop_only_whom_they_could_help(
    backed_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a store here the error is raised; with one, the work goes on."""

    def away(place: Place) -> dict[str, int]:
        raise BackupError("The backups are away.")

    monkeypatch.setattr(Place, "sizes", away)
    with pytest.raises(BackupError):
        open_newest(tmp_path / "second" / "p0", backups_in(backed_up))
    assert not (tmp_path / "second" / "p0").exists()
    with closing(open_newest(tmp_path / "first" / "p0", backups_in(backed_up))) as store:
        assert Partition(store, 0, SETTINGS).next_offsets == [200, 200, 200]
    assert "goes on with the store that is here: The backups are away." in caplog.text


def test_a_store_that_is_open_is_busy(backed_up: Path, tmp_path: Path) -> None:
    """Open, or being restored, in another process: nothing is touched."""
    path = tmp_path / "first" / "p0"
    with closing(open_store(path)), pytest.raises(StoreBusyError, match="is open in process"):
        open_newest(path, backups_in(backed_up))
    with restore._alone(path), pytest.raises(StoreBusyError, match="is being restored by another process"):
        open_newest(path, backups_in(backed_up))


def test_a_crash_while_restoring_leaves_nothing_half(
    backed_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it happens, the next start restores it anew."""
    path = tmp_path / "second" / "p0"
    with closing(open_store(path)) as store:
        read_on(store, LOG, 60)
    fetch = PartitionBackups.fetch

    def crash(backups: PartitionBackups, manifest: object, into: Path, old: Path | None) -> int:
        fetch(backups, manifest, into, old)  # type: ignore[arg-type]
        min(into.glob("*.sst")).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(PartitionBackups, "fetch", crash)
    with pytest.raises(KeyboardInterrupt):
        restore.restore(path, backups_in(backed_up))
    monkeypatch.undo()
    path.rename(path.with_name(".p0.replaced"))  # between the two renames of another crash
    with closing(open_newest(path, backups_in(backed_up))) as store:
        read_on(store, LOG, 300)
    assert_same(path)


def test_the_log_says_what_was_restored(backed_up: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When and by whom the backup was made, and what it took."""
    with caplog.at_level(logging.INFO, "hstu.backup"):
        open_newest(tmp_path / "second" / "p0", backups_in(backed_up)).close()
    assert "Partition 0 is restored from the backup of 20" in caplog.text
    assert "600 records read" in caplog.text
