"""Opening a store of which there may be newer backups.

    no store here, or an older one ─► newest whole backup ─► .p0.restored ─► renamed to p0
    a damaged store                ─► the same, and what has read more is replaced as well
    a store that has read as much  ─► opened

A store is a function of Kafka's logs up to its offsets, whoever made it. So the one that has read more is always the
right one to begin with, and the rest is read from Kafka.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from stream.backup.manifest import Manifest
from stream.backup.partition_backups import PartitionBackups
from stream.errors import DamagedError, HstuError, StoreBusyError, StoreDamagedError, StoreError
from stream.store import layout
from stream.store.refusals import damaged, refuse_other_partition
from stream.store.rocksdb import RocksStore, is_there, open_store
from stream.store.standby import mark_standby, unmark
from stream.store.tables import damaged_tables, named_tables

Compare = Callable[[Manifest, bool], None]
"""Takes a backup, and whether it is to be restored; raises StoreError where it is of another log than Kafka has."""
_log = logging.getLogger("hstu.backup")


def _any(backup: Manifest, restored: bool) -> None:
    """Refuse nothing."""


def open_newest(
    path: Path, backups: PartitionBackups, damage: StoreDamagedError | None = None, compare: Compare = _any
) -> RocksStore:
    """Open a partition's store for writing, replaced by its newest whole backup if that has read more records.

    Args:
        path: The store.
        backups: Its backups.
        damage: What was met in the store after it was opened; it is replaced then, whatever it has read.
        compare: Compares the newest backup with Kafka's logs before the backups are claimed, and the one that is to
            take the place of a store.

    Raises:
        StoreBusyError: Another process has it open, or is restoring it.
        StoreError: The store here, or the backup, cannot be used.
        BackupError, FormatError: There is no store here, and the backups cannot be read.
    """
    with _alone(path):
        store, damage = (None, damage) if damage else _open_if_there(path, backups.number)
        unmark(path)
        try:
            if newest := backups.newest():
                compare(newest, False)
            backups.claim()
            restored = _restore_newer(path, store, backups, compare)
        except StoreError:
            with suppress(StoreError):
                if store:
                    store.close()
            raise
        except Exception as error:  # whatever is wrong with backups, a store that is here is good
            if store is None:
                raise
            own = isinstance(error, HstuError)
            _log.warning(
                "Partition %d goes on with the store that is here: %s", backups.number, error, exc_info=not own
            )
            return store
        _refuse_unless(restored, damage, backups)
        if restored:
            _log.info("Partition %d is restored from %s", backups.number, restored)
        return open_store(path) if restored or store is None else store


def restore(
    path: Path,
    backups: PartitionBackups,
    *,
    standby: bool = False,
    thorough: bool = False,
    compare: Compare = _any,
    keeps: bool = False,
) -> str | None:
    """Do the same and close the store; return a line about the backup that was restored, None if none was.

    Args:
        path: The store.
        backups: Its backups.
        standby: Whether it is to be marked as one that only stands by.
        thorough: Whether every byte of the store here is read first, so that all damage is found.
        compare: As for `open_newest`.
        keeps: Whether a store that can be used is kept beside the one that replaces it (`replaced_path`).

    Raises:
        StoreBusyError: Another process has it open, or is restoring it.
        StoreError: The store here cannot be used.
        BackupError, FormatError: The backups cannot be read.
    """
    with _alone(path):
        (store, damage), restored = _open_if_there(path, backups.number, thorough=thorough), None
        try:
            restored = _restore_newer(path, store, backups, compare, keeps=keeps)
        finally:
            if store and not restored:
                store.close()
        _refuse_unless(restored, damage, backups)
        if restored:
            unmark(path)  # said of what it was before
        if standby and path.exists():
            mark_standby(path)
        return restored


def _open_if_there(
    path: Path, number: int, *, thorough: bool = False
) -> tuple[RocksStore | None, StoreDamagedError | None]:
    """Return the store that is here, or what is said of one that is damaged."""
    if not is_there(path):
        return None, None
    store = None
    try:
        store = open_store(path)
        if thorough:
            store.close()
            if names := damaged_tables(path / name for name in named_tables(path)):
                raise damaged(path, f"{', '.join(names)} is not what RocksDB wrote")
            store = open_store(path)
        if meta := _meta(store):
            refuse_other_partition(meta, number, path)
    except StoreError as error:
        if store:
            with suppress(StoreError):
                store.close()
        if isinstance(error, StoreDamagedError):
            return None, error
        raise
    return store, None


def _refuse_unless(restored: str | None, damage: StoreDamagedError | None, backups: PartitionBackups) -> None:
    """Raise what is said of a damaged store, unless it has been replaced."""
    if damage and not restored:
        raise StoreDamagedError(f"{damage} There is no whole backup of it in {backups.place.url}.")
    if damage:
        _log.warning("%s It was replaced.", damage)


def _restore_newer(
    path: Path, store: RocksStore | None, backups: PartitionBackups, compare: Compare, *, keeps: bool = False
) -> str | None:
    """Replace a store, and close it, where the newest whole backup has read more; return a line about the backup."""
    have = _records(store)
    aside = path.resolve().with_name(f".{path.name}.restored")
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    for manifest in backups.newest_first():
        if manifest.records <= have:
            return None
        try:
            compare(manifest, True)
            copied = backups.fetch(manifest, aside, path if store else None)
            if store:
                with suppress(StoreDamagedError):  # it is replaced
                    store.close()
            _replace(path, aside, keeps=keeps and store is not None)
        except DamagedError as error:
            _log.warning("%s The backup is passed over.", error)
            continue
        except OSError as error:
            raise StoreError(
                f"The store {path} cannot be restored: {error}; make room, or mend what it names, and start again."
            ) from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return describe(manifest, copied)
    return None


def describe(manifest: Manifest, copied: int | None = None) -> str:
    """Return a line about a backup, and how many of its bytes had to be copied."""
    made = datetime.fromtimestamp(manifest.made_ms / 1000, UTC).isoformat(" ", "seconds")
    line = f"the backup of {made} by {manifest.made_by}: {manifest.records:,} records read, {manifest.size:,} bytes"
    return line if copied is None else f"{line}, of which {copied:,} were copied"


def _records(store: RocksStore | None) -> int:
    meta = _meta(store) if store else None
    return sum(meta.offsets) if meta else -1


def _meta(store: RocksStore) -> layout.Meta | None:
    data = store.get(layout.META_KEY)
    return layout.unpack(layout.METAS, layout.META_KEY, data) if data else None


def _replace(path: Path, aside: Path, *, keeps: bool) -> None:
    """Put a folder in the place of another; after a crash between the two there is none, and it is restored again."""
    path = path.resolve()
    replaced = replaced_path(path) if keeps else path.with_name(f".{path.name}.replaced")
    if not keeps:
        shutil.rmtree(replaced, ignore_errors=True)
    with suppress(FileNotFoundError):
        path.rename(replaced)
    aside.rename(path)
    if not keeps:
        shutil.rmtree(replaced, ignore_errors=True)


def replaced_path(path: Path) -> Path:
    """Return where a store is kept that a restore by hand replaces; such a folder does not exist."""
    names = (path.with_name(f"{path.name}.replaced{f'-{number}' if number else ''}") for number in count())
    return next(name for name in names if not name.exists())


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from restoring or opening the same store meanwhile.

    Raises:
        StoreBusyError: Another one does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreBusyError(f"The store {path} is being restored by another process of this machine.") from None
    try:
        yield
    finally:
        lock.release()
