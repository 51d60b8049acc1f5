"""Backups of one partition: incremental, pruned, verified, and written by the newest owner alone."""

import shutil
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from stream.backup.manifest import Manifest
from stream.backup.partition_backups import PartitionBackups
from stream.backup.place import Place
from stream.errors import BackupError, DamagedError, FencedError, FormatError, StoreDamagedError
from stream.store.rocksdb import RocksStore, open_store, read_meta
from tests.stream.backup.stores import backups_in, flip_a_bit, make_log, read_on, save, seem_newer

LOG = make_log(300)


def stored(backups: PartitionBackups) -> set[str]:
    return set(backups.place.under("data").sizes())


def test_a_second_backup_copies_only_new_files(tmp_path: Path) -> None:
    """The first copies all; the next the tables made since; without new records there is none."""
    backups = backups_in(tmp_path / "backups")
    with closing(open_store(tmp_path / "p0")) as store:
        read_on(store, LOG, 280)
        first = save(store, backups, tmp_path / "aside")
        assert save(store, backups, tmp_path / "aside") is None
        read_on(store, LOG, 300)
        second = save(store, backups, tmp_path / "aside")
    newest, before = backups.newest_first()
    assert first == before.size
    assert second is not None
    assert second < first / 2
    tables = [{file.stored for file in manifest.files if file.name.endswith(".sst")} for manifest in (before, newest)]
    assert tables[0] < tables[1]
    assert newest.offsets == [300, 300, 300]
    backups.verify(newest)
    backups.verify(before)


def test_a_backup_is_one_moment_of_a_store_that_is_written(tmp_path: Path) -> None:
    """Offsets and digest in the manifest are those of the files, and not of the store as it is afterwards."""
    backups = backups_in(tmp_path / "backups")
    with closing(open_store(tmp_path / "p0")) as store:
        before = read_on(store, LOG, 100)
        digest = before.digest
        store.checkpoint(tmp_path / "aside")
        read_on(store, LOG, 200)
        saved = backups.save(tmp_path / "aside")
    assert saved is not None
    assert saved.manifest.offsets == [100, 100, 100]
    assert saved.manifest.digest == digest.to_bytes(16).hex()
    backups.fetch(saved.manifest, tmp_path / "copy", None)
    meta = read_meta(tmp_path / "copy")
    assert meta is not None
    assert (meta.offsets, meta.digest) == ([100, 100, 100], digest.to_bytes(16))


def test_a_store_that_rots_pushes_out_no_backup(tmp_path: Path) -> None:
    """A bit of a table that was backed up whole is flipped: no backup is made of it, as often as it is tried."""
    backups, path = backups_in(tmp_path / "backups", keep=1), tmp_path / "p0"
    with closing(open_store(path)) as store:
        read_on(store, LOG, 200)
        save(store, backups, tmp_path / "aside")
    names = backups.names()
    flip_a_bit(path)
    with suppress(StoreDamagedError), closing(open_store(path)) as store:  # which may be found while it is closed
        seem_newer(store)
        for again in (backups, backups_in(tmp_path / "backups", keep=1)):
            with pytest.raises(
                StoreDamagedError, match=r"partition 0 is damaged: \d+\.sst is not .*hstu store restore"
            ):
                save(store, again, tmp_path / "aside")
    assert backups.names() == names
    backups.verify(backups.load(names[0]))
    assert not list(tmp_path.glob(".*tables"))


def test_older_backups_and_their_files_go(tmp_path: Path) -> None:
    """`keep` manifests stay, with all the files that they name and no others, leftovers of a crash included."""
    backups = backups_in(tmp_path / "backups", keep=2)
    with closing(open_store(tmp_path / "p0")) as store:
        for end in (60, 120, 180, 240):
            read_on(store, LOG, end)
            save(store, backups, tmp_path / "aside")
            backups.place.under("data").write(f"000000000001-00000000-{0:032x}", b"half a file")
        read_on(store, LOG, 300)
        save(store, backups, tmp_path / "aside")
    kept = list(backups.newest_first())
    assert [manifest.offsets[0] for manifest in kept] == [300, 240]
    assert stored(backups) == {file.stored for manifest in kept for file in manifest.files}
    for manifest in kept:
        backups.verify(manifest)


def test_a_file_that_was_lost_is_copied_again(tmp_path: Path) -> None:
    """One lost or cut off in the newest backup is not named once more as if it were there."""
    backups = backups_in(tmp_path / "backups")
    with closing(open_store(tmp_path / "p0")) as store:
        read_on(store, LOG, 200)
        save(store, backups, tmp_path / "aside")
        newest = next(backups.newest_first())
        tables = [file for file in newest.files if file.name.endswith(".sst")]
        (tmp_path / "backups" / "p0" / "data" / tables[-1].stored).write_bytes(b"short")
        with pytest.raises(DamagedError, match=rf"{tables[-1].stored} .* has 5 bytes"):
            backups.verify(newest)
        read_on(store, LOG, 300)
        save(store, backups, tmp_path / "aside")
    backups.verify(next(backups.newest_first()))


def test_what_is_none_of_ours_is_passed_over(tmp_path: Path) -> None:
    """Files and folders of other names, in the backups and beside their files, harm nothing and stay."""
    backups, folder = backups_in(tmp_path / "backups", keep=2), tmp_path / "backups" / "p0"
    with closing(open_store(tmp_path / "p0")) as store:
        read_on(store, LOG, 60)
        save(store, backups, tmp_path / "aside")
        name = backups.names()[0]
        strangers = [f"{name}.tmp", "epoch-old", f"backup-9{name[7:]}", "data/notes", "data/0", f"{name[:-5]}.json~"]
        for stranger in strangers:
            (folder / stranger).write_text("not ours")
        folders = [
            f"backup-999{name[10:]}",
            "data/.snapshot",
            f"data/{backups.load(name).files[0].stored[:-32]}{0:032x}",
        ]
        for each in folders:
            (folder / each).mkdir()
        for end in (120, 180):
            read_on(store, LOG, end)
            later = backups_in(tmp_path / "backups", keep=2)
            assert save(store, later, tmp_path / "aside")
    assert [manifest.offsets[0] for manifest in later.newest_first()] == [180, 120]
    assert name not in later.names()
    assert all((folder / each).exists() for each in strangers + folders)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def test_backups_of_another_partition_are_refused_by_name(tmp_path: Path) -> None:
    """A folder that was copied or renamed: restored, it would be another partition's store."""
    with closing(open_store(tmp_path / "p0")) as store:
        read_on(store, LOG, 60)
        save(store, backups_in(tmp_path / "backups"), tmp_path / "aside")
    shutil.copytree(tmp_path / "backups" / "p0", tmp_path / "backups" / "p1")
    other = PartitionBackups(Place(str(tmp_path / "backups")), "", 1, 1, 3)
    for look in (other.newest_whole, lambda: list(other.newest_first()), lambda: other.load(other.names()[0])):
        with pytest.raises(FormatError, match=r"backups/p1/backup-.* is of partition 0, not of 1: its folder was"):
            look()


@pytest.mark.parametrize("harm", [cut_off, Path.unlink])
@pytest.mark.parametrize("what", ["manifests", "a file"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_damaged_backup_is_made_again_without_new_records(
    restarted: bool, what: str, harm: Callable[[Path], None], tmp_path: Path
) -> None:
    """By the same worker and by the next one; the damaged ones are gone, and what is left is whole."""
    backups, folder = backups_in(tmp_path / "backups"), tmp_path / "backups" / "p0"
    with closing(open_store(tmp_path / "p0")) as store:
        for end in (100, 150):
            read_on(store, LOG, end)
            save(store, backups, tmp_path / "aside")
        newest = backups.load(backups.names()[0])
        of_newest = [folder / "data" / max(file.stored for file in newest.files)]
        for path in folder.glob("backup-*.json") if what == "manifests" else of_newest:
            harm(path)
        if restarted:
            backups = backups_in(tmp_path / "backups")
        assert save(store, backups, tmp_path / "aside") is not None
        assert save(store, backups, tmp_path / "aside") is None
    assert backups.names()
    for name in backups.names():
        backups.verify(backups.load(name))
    assert next(backups.newest_first()).offsets == [150, 150, 150]


def test_damaged_backups_are_none_of_those_that_are_kept(tmp_path: Path) -> None:
    """Two whole ones stay where one of three was damaged."""
    backups = backups_in(tmp_path / "backups", keep=2)
    with closing(open_store(tmp_path / "p0")) as store:
        for end in (100, 150):
            read_on(store, LOG, end)
            save(store, backups, tmp_path / "aside")
        cut_off(tmp_path / "backups" / "p0" / backups.names()[0])
        read_on(store, LOG, 200)
        save(store, backups, tmp_path / "aside")
    assert [manifest.offsets[0] for manifest in backups.newest_first()] == [200, 100]
    assert len(backups.names()) == 2
    for manifest in backups.newest_first():
        backups.verify(manifest)


def test_backups_that_name_no_kafka_are_a_kind_of_their_own(tmp_path: Path) -> None:
    """One that names its Kafka neither counts nor deletes them; none is made where one names a Kafka."""
    with closing(open_store(tmp_path / "p0")) as store, closing(open_store(tmp_path / "other")) as other:
        for end in (100, 200):
            read_on(store, LOG, end)
            assert save(store, backups_in(tmp_path / "backups", keep=1), tmp_path / "aside")
        for end in (50, 100):
            read_on(other, LOG, end)
            named = backups_in(tmp_path / "backups", keep=1, cluster="a")
            assert save(other, named, tmp_path / "aside"), "the other's has read more"
        read_on(store, LOG, 250)
        with pytest.raises(BackupError, match=r"are of the Kafka whose cluster id is a, .* name that Kafka by --boot"):
            save(store, backups_in(tmp_path / "backups", keep=1), tmp_path / "aside")
    assert sorted((each.offsets[0], each.cluster) for each in named.newest_first()) == [(100, "a"), (200, "")]
    for each in named.newest_first():
        named.verify(each)


def test_nothing_is_written_where_any_backup_is_of_another_kafka(tmp_path: Path) -> None:
    """However old it is; the newest, which names none, may be ours."""
    backups = backups_in(tmp_path / "backups", cluster="b")
    with closing(open_store(tmp_path / "p0")) as store:
        for end, cluster in ((100, ""), (150, "a")):
            read_on(store, LOG, end)
            save(store, backups_in(tmp_path / "backups", cluster=cluster), tmp_path / "aside")
        last, first = (tmp_path / "backups" / "p0" / name for name in backups.names())
        last.rename(first.with_name(last.name.replace("000000000002", "000000000000")))
        files = set((tmp_path / "backups").rglob("*"))
        read_on(store, LOG, 200)
        with pytest.raises(FormatError, match="is of another Kafka, whose cluster id is a"):
            save(store, backups, tmp_path / "aside")
    assert set((tmp_path / "backups").rglob("*")) == files


def test_backups_that_somebody_deletes_are_made_again(tmp_path: Path) -> None:
    """With all that was in their folder."""
    backups = backups_in(tmp_path / "backups")
    with closing(open_store(tmp_path / "p0")) as store:
        read_on(store, LOG, 60)
        save(store, backups, tmp_path / "aside")
        shutil.rmtree(tmp_path / "backups" / "p0")
        assert save(store, backups, tmp_path / "aside")
    backups.verify(next(backups.newest_first()))


def test_a_backup_of_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    """The sentence says what to set."""
    backups = backups_in(tmp_path / "backups")
    with closing(open_store(tmp_path / "p0")) as store:
        read_on(store, LOG, 60)
        save(store, backups, tmp_path / "aside")
    others = PartitionBackups(Place(str(tmp_path / "backups")), "", 0, 4, 2)
    with pytest.raises(FormatError, match=r"is of 1 partitions, and the settings say 4; .* set stream.partitions = 1"):
        next(others.newest_first())


def taken_over(tmp_path: Path) -> tuple[RocksStore, PartitionBackups, PartitionBackups]:
    """Return a store and its backups by a worker that has lost the partition without knowing, and its successor's."""
    zombie = backups_in(tmp_path / "backups", keep=2)
    store = open_store(tmp_path / "p0")
    for end in (100, 150):
        read_on(store, LOG, end)
        save(store, zombie, tmp_path / "aside")
    successor = backups_in(tmp_path / "backups", keep=2)
    successor.claim()
    return store, zombie, successor


def test_a_worker_that_has_lost_the_partition_writes_no_backup(tmp_path: Path) -> None:
    """It is told by whom; one that gets the partition again claims it anew."""
    store, zombie, successor = taken_over(tmp_path)
    with closing(store):
        read_on(store, LOG, 200)
        with pytest.raises(FencedError, match="taken over by epoch 000000000002-"):
            save(store, zombie, tmp_path / "aside")
        assert [manifest.offsets[0] for manifest in successor.newest_first()] == [150, 100]
        assert save(store, zombie, tmp_path / "aside")
        assert next(successor.newest_first()).epoch.startswith("000000000003-")
        with pytest.raises(FencedError):
            save(store, successor, tmp_path / "aside")


def test_a_worker_that_is_cut_off_leaves_its_successor_alone(tmp_path: Path) -> None:
    """It reads nothing any more, so that it has nothing to back up, and claims nothing."""
    store, zombie, successor = taken_over(tmp_path)
    with closing(store), closing(open_store(tmp_path / "other")) as other:
        with pytest.raises(FencedError):
            save(store, zombie, tmp_path / "aside")
        for end in (200, 250):
            read_on(other, LOG, end)
            assert save(store, zombie, tmp_path / "aside") is None
            assert save(other, successor, tmp_path / "of-other")


def test_a_worker_that_loses_the_partition_while_it_copies_writes_no_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has copied is no backup, and goes with its successor's next one."""
    zombie, successor = (backups_in(tmp_path / "backups") for _ in range(2))
    put = Place.put

    def late(place: Place, path: Path, name: str) -> None:
        monkeypatch.undo()
        put(place, path, name)
        successor.claim()

    with closing(open_store(tmp_path / "p0")) as store:
        read_on(store, LOG, 100)
        monkeypatch.setattr(Place, "put", late)
        with pytest.raises(FencedError):
            save(store, zombie, tmp_path / "aside")
        assert successor.names() == []
        save(store, successor, tmp_path / "aside")
    assert stored(successor) == {file.stored for file in next(successor.newest_first()).files}


@pytest.mark.parametrize("moment", ["before manifests go", "before files go"])
def test_a_worker_that_loses_the_partition_while_it_prunes_spoils_nothing(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops between its last look at the epochs and its deletions; its successor goes on meanwhile.

    Neither a file of the backup from which the successor began is gone, nor one that it wrote.
    """
    zombie, successor = (backups_in(tmp_path / "backups", keep=2) for _ in range(2))
    began: list[Manifest] = []
    with closing(open_store(tmp_path / "p0")) as store, closing(open_store(tmp_path / "other")) as other:
        for end in (100, 150):
            read_on(store, LOG, end)
            save(store, zombie, tmp_path / "aside")
        delete = Place.delete

        def late(place: Place, names: Iterable[str]) -> None:
            listed = list(names)
            if place.url.endswith("data") == (moment == "before files go"):
                monkeypatch.undo()
                successor.claim()
                began.append(next(successor.newest_first()))
                read_on(other, LOG, 300)
                save(other, successor, tmp_path / "of-other")
            delete(place, listed)

        monkeypatch.setattr(Place, "delete", late)
        read_on(store, LOG, 200)
        save(store, zombie, tmp_path / "aside")
    newest, before = successor.newest_first()
    assert (newest.offsets, [before]) == ([300, 300, 300], began)
    successor.verify(newest)
    successor.verify(before)
