"""What `hstu store` does: one partition at a time, and a line about each."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from stream.backup.partition_backups import PartitionBackups
from stream.backup.place import Place
from stream.backup.restore import describe, replaced_path, restore
from stream.config import StreamSettings
from stream.errors import BackupError, FormatError, OtherLogError, StoreError
from stream.operations.store_logs import Reached, RefuseUnlike
from stream.store.refusals import renamed
from stream.store.rocksdb import is_there, open_store, partition_path, read_meta


def backups_of(settings: StreamSettings, partitions: Iterable[int] | None, cluster: str = "") -> list[PartitionBackups]:
    """Return the backups of these partitions, of all where none is named.

    Args:
        settings: Say where they lie.
        partitions: Numbers.
        cluster: Id of the Kafka whose logs the stores read, empty where that is not known.

    Raises:
        BackupError: No place is named, or there is no such partition.
    """
    if not settings.backup_url:
        raise BackupError("No place for backups is named; give --url, or set stream.backup_url.")
    numbers = sorted(set(partitions or range(settings.partitions)))
    if numbers[0] < 0 or numbers[-1] >= settings.partitions:
        raise BackupError(f"There are partitions 0 to {settings.partitions - 1}; correct --partition {numbers[-1]}.")
    root = Place(settings.backup_url)
    prefix, total, keep = settings.topic_prefix, settings.partitions, settings.backup_keep
    return [PartitionBackups(root, prefix, number, total, keep, cluster) for number in numbers]


def back_up(data_dir: Path, backups: PartitionBackups, refuse_unlike: RefuseUnlike | None) -> str:
    """Back a store up, and return a line about it.

    Args:
        data_dir: Holds the store.
        backups: Its backups.
        refuse_unlike: Raises OtherLogError where Kafka's logs are not those that a partition's store has read; None
            where the Kafka is not known.

    Raises:
        StoreBusyError: A worker has it open.
        StoreError, BackupError: It cannot be read or written.
        BrokerError: It, or the newest backup, is of another log than Kafka has, or Kafka does not answer.
    """
    path = partition_path(data_dir, backups.number)
    if not is_there(path):
        return f"partition {backups.number}: no store here"
    aside = path.resolve().with_name(f".{path.name}.backup")
    store = open_store(path)
    try:
        store.checkpoint(aside)
        if refuse_unlike:
            _compare(backups.number, read_meta(aside), f"The store {path}", refuse_unlike)
            _compare(backups.number, backups.newest(), f"The newest backup in {backups.place.url}", refuse_unlike)
        saved = backups.save(aside)
    except StoreError as error:
        raise renamed(error, aside, path) from None
    finally:
        store.close()
        shutil.rmtree(aside, ignore_errors=True)
    if saved is None:
        return f"partition {backups.number}: nothing that the newest whole backup has not"
    return f"partition {backups.number}: {describe(saved.manifest, saved.copied)}"


def _compare(number: int, reached: Reached | None, what: str, refuse_unlike: RefuseUnlike) -> None:
    """Refuse what is of another log than Kafka has."""
    try:
        if reached:
            refuse_unlike(number, reached, goes_on=False)
    except OtherLogError as error:
        raise StoreError(
            f"{what} is of another log than Kafka has: {error.fact}. Nothing was backed up: correct --data-dir, --url, "
            "or --bootstrap ('' for "
            "a store that was made without Kafka)."
        ) from None


def restore_newer(data_dir: Path, backups: PartitionBackups) -> tuple[str, bool]:
    """Restore a store unless an undamaged one here has read as much; return a line, and whether there is a store now.

    Raises:
        StoreBusyError: A worker has it open.
        StoreError, BackupError: It cannot be read or written.
    """
    path = partition_path(data_dir, backups.number)
    kept = replaced_path(path.resolve())
    if restored := restore(path, backups, thorough=True, keeps=True):
        before = f"; the store of before is kept as {kept}: delete it once the worker runs" if kept.exists() else ""
        return f"partition {backups.number}: {restored}{before}", True
    if is_there(path):
        return f"partition {backups.number}: no backup that is whole and has read more than the store here", True
    return f"partition {backups.number}: no whole backup in {backups.place.url}, and no store here", False


def verify(backups: PartitionBackups) -> Iterator[tuple[str, bool]]:
    """Yield a line for each backup, the newest first, and whether it is whole; a line where there is none.

    Raises:
        BackupError: They cannot be read.
    """
    names = backups.names()
    if not names:
        yield f"partition {backups.number}: no backup", False
    for name in names:
        try:
            manifest = backups.load(name)
            backups.verify(manifest)
            yield f"partition {backups.number}: whole, {describe(manifest)}", True
        except FormatError as error:
            yield f"partition {backups.number}: {error}", False
