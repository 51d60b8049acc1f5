"""The sequence store of one partition: RocksDB by rocksdict, opened, checked, and written one batch at a time.

    <data_dir>/store/p0/           the store of partition 0
    <data_dir>/store/p0.owner      which process opened it last, for the error of the next one
    <data_dir>/store/p0.standby, p0.left    a worker of another host is ahead of it: standby.py
    <data_dir>/store/.p0.new/      one that is being made; it is renamed when it is whole, so p0 is never half a store
    <data_dir>/store/.p0.backup/   its state at one moment, by links to its files, on its way to the backups
    <data_dir>/store/.p0.restored/, .p0.replaced/, .p0.lock     restored from them: stream/backup/restore.py

Foreign exceptions stop here: a store that is open elsewhere, damaged, foreign or unwritable is a StoreError.
"""

import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Protocol

from rocksdict import AccessType, Checkpoint, Rdict, WriteBatch

from stream.errors import StoreBusyError, StoreDamagedError, StoreError
from stream.store import layout, refusals, scans
from stream.store.opening import ALL_FILES, every_level, only_log_damaged, open_for_writing, open_rocksdb, store_options
from stream.store.tables import named_tables, refuse_odd_manifest, tables_of

_FLUSH_S, _FLUSH_LOOK_S = 60.0, 0.005
_SHARED_BYTES: Final = 3  # of a key: its letter and 16 bits of the user's
_VERSION: Final = layout.VERSION.to_bytes(4, "little")
# rocksdict raises a bare Exception with the text of RocksDB, which (env_posix.cc) reports a lock that is held in two
# ways: by a handle of this process, and by another process. A LOCK that cannot be opened is neither.
_BUSY: Final = re.compile(
    r"IO error: (lock hold by current process, |While lock file: .*: Resource temporarily unavailable$)"
)


class Store(Protocol):
    """An ordered map of bytes, changed by whole batches: after a crash all of a batch is there, or nothing."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key."""

    def scan(self, prefix: bytes, start: bytes = b"", most: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Return the keys with a prefix, in order from `start` on, with their values; `most` of them at most."""

    def scan_back(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return all keys with a prefix, from the last to the first, with their values."""

    def write(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Apply (key, value) pairs at once; the value None deletes the key."""

    def purge(self, prefixes: Iterable[bytes]) -> None:
        """Clear what was deleted under these prefixes off the disk."""

    def close(self) -> None:
        """Close the files."""


def partition_path(data_dir: Path, partition: int) -> Path:
    """Return the folder of one partition's store."""
    return data_dir / "store" / f"p{partition}"


class RocksStore:
    """A store on disk. Another process may read it at the same time with `open_secondary`."""

    def __init__(
        self, db: Rdict, path: Path, scratch: Path | None = None, read: Mapping[str, int] | None = None
    ) -> None:
        self._db = db
        self._path = path
        self._scratch = scratch
        self._read = read  # sizes of the logs and manifests as of the last catch_up
        self._checked: Mapping[str, int] = {}  # sizes of the manifests as of the last look for lost tables

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key.

        Raises:
            StoreError: The files are damaged.
        """
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._unreadable(error) from None
        return value

    def scan(self, prefix: bytes, start: bytes = b"", most: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Return the keys with a prefix, in order from `start` on, with their values; `most` of them at most.

        Raises:
            StoreError: The files are damaged.
        """
        try:
            found = scans.forward(self._db, prefix, start or prefix, most)
        except Exception as error:
            raise self._unreadable(error) from None
        yield from found

    def scan_back(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return all keys with a prefix, from the last to the first; what is not asked for is not read."""
        try:
            yield from scans.back(self._db, prefix)
        except Exception as error:
            raise self._unreadable(error) from None

    def write(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Apply all changes in one WriteBatch.

        Raises:
            StoreError: Nothing of the batch was written, for instance because the disk is full.
        """
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._db.write(batch)
        except Exception as error:
            raise refusals.unusable(self._path, error, what="cannot be written") from None

    def purge(self, prefixes: Iterable[bytes]) -> None:
        """Clear what was deleted under these prefixes off the disk: a deletion alone leaves the bytes for a while.

        RocksDB's own log names the range that is cleared, so it is one that many users share.
        """
        try:
            for prefix in prefixes:
                shared = prefix[:_SHARED_BYTES]
                self._db.compact_range(shared, scans.after(shared), every_level())
        except Exception as error:
            raise self._unreadable(error) from None

    def flush(self) -> None:
        """Write what is in memory to disk, so that a power cut loses nothing of it.

        Raises:
            StoreError: It cannot be written, for instance because the disk is full.
        """
        try:
            self._db.flush(wait=True)
        except Exception as error:
            raise refusals.unusable(self._path, error, what="cannot be written") from None

    def checkpoint(self, path: Path) -> None:
        """Write the state of this moment into a new folder beside the store, by links to its files; in a thread.

        rocksdict holds Python's lock while RocksDB makes a checkpoint. So what is in memory is first written to disk by
        RocksDB's own thread, and the checkpoint itself takes milliseconds.

        Raises:
            StoreError: It cannot be written, for instance because the disk is full.
        """
        shutil.rmtree(path, ignore_errors=True)
        try:
            self._db.flush(wait=False)
            number = self._db.property_int_value
            for _ in range(round(_FLUSH_S / _FLUSH_LOOK_S)):
                if number("rocksdb.background-errors") or not number("rocksdb.num-immutable-mem-table"):
                    break  # written, or never to be
                time.sleep(_FLUSH_LOOK_S)
            Checkpoint(self._db).create_checkpoint(str(path))
        except Exception as error:
            raise refusals.unusable(path, error, what="cannot be written") from None

    def catch_up(self) -> None:
        """Read what the writer has written since (secondaries only); nothing if no file has grown, come or gone.

        Where the writer has begun another log, all is opened anew: a secondary keeps what it has read of the one
        before, and would answer with that in the place of newer values until something is written to the new log.

        Raises:
            StoreError: The files are damaged.
        """
        written = _log_sizes(self._path)
        if written is None or written != self._read:
            try:
                if written is not None and self._read is not None and written.keys() == self._read.keys():
                    self._db.try_catch_up_with_primary()
                else:
                    before, self._db = self._db, _secondary(self._path, self._scratch)
                    before.close()
            except Exception as error:
                raise self._unreadable(error) from None
            self._read = written
        self.refuse_lost_tables()

    def refuse_lost_tables(self) -> None:
        """Check that a secondary has all tables that the manifest names, once for each state of the manifest.

        RocksDB's secondaries pass over a table that they cannot open, and answer as if its keys had never been. Where
        the writer has written to the manifest meanwhile, the next call looks.

        Raises:
            StoreDamagedError: A table is missing or damaged.
        """
        manifests = _manifests(self._read)
        if not manifests or manifests == self._checked:
            return
        try:
            lost = named_tables(self._path) - tables_of(self._db)
        except StoreError:
            if _manifests(_log_sizes(self._path)) == manifests:
                raise
            return
        if _manifests(_log_sizes(self._path)) == manifests:
            if lost:
                raise refusals.damaged(self._path, f"{', '.join(sorted(lost))} cannot be read")
            self._checked = manifests

    def _unreadable(self, error: Exception) -> StoreError:
        return refusals.unusable(self._path, error, files_come_and_go=self._scratch is not None)

    def close(self) -> None:
        """Close the files, so that another process may open them.

        Raises:
            StoreError: What is in memory cannot be written; Kafka still has its events.
        """
        try:
            self._db.close()
        except Exception as error:
            raise refusals.unusable(self._path, error, what="cannot be closed") from None
        finally:
            if self._scratch:
                shutil.rmtree(self._scratch, ignore_errors=True)


def _log_sizes(path: Path) -> dict[str, int] | None:
    """Return the sizes of a store's logs and manifests: every write makes one longer. None where one has just gone."""
    try:
        with os.scandir(path) as files:
            logs = [file for file in files if file.name.endswith(".log") or file.name.startswith("MANIFEST")]
            return {file.name: file.stat().st_size for file in logs}
    except OSError:
        return None


def _manifests(sizes: Mapping[str, int] | None) -> dict[str, int]:
    return {name: size for name, size in (sizes or {}).items() if name.startswith("MANIFEST")}


def identity(path: Path) -> bytes:
    """Return what tells a store from one made later in the same folder, whose inode may be the same.

    A restored store gets its IDENTITY when a worker first opens it.

    Raises:
        StoreError: There is no store.
    """
    for name in ("IDENTITY", "CURRENT"):
        with suppress(OSError):
            return (path / name).read_bytes() + str((path / name).stat().st_mtime_ns).encode()
    raise refusals.absent(path)


def is_there(path: Path) -> bool:
    """Return whether a folder has a store or a part of one; in an empty folder, or where is none, one may be made.

    Raises:
        StoreError: It is no folder, or cannot be looked into.
    """
    try:
        return any(path.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise refusals.not_a_folder(path) from None
    except OSError as error:
        raise refusals.unusable(path, error) from None


def open_store(path: Path) -> RocksStore:
    """Open a partition's store for writing; make it where there is no folder, or an empty one.

    Raises:
        StoreBusyError: Another process has it open.
        StoreError: A part of it is missing, it is damaged, the disk is full, another version wrote it, or it is none.
    """
    try:
        if not is_there(path):
            _make(path)
        elif not (path / "CURRENT").exists():
            raise refusals.incomplete(path)
        refuse_odd_manifest(path)
        db = open_for_writing(path)
    except StoreError:
        raise
    except Exception as error:
        if _BUSY.match(str(error)):
            raise StoreBusyError(f"The store {path} is open in {_owner(path)}; stop that worker first.") from None
        raise refusals.unusable(path, error) from None
    _drop_backup_copy(path)
    with suppress(OSError):
        _owner_file(path).write_text(f"process {os.getpid()} on {socket.gethostname()}")
    return _checked(RocksStore(db, path), path)


def _drop_backup_copy(path: Path) -> None:
    """Remove what a process that was killed has left of a backup: users may be forgotten since.

    It is renamed first: should a backup still be made of it, that fails as a whole.
    """
    copy = path.resolve().with_name(f".{path.name}.backup")
    gone = copy.with_name(f"{copy.name}.gone")
    with suppress(OSError):
        copy.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _checked(store: RocksStore, path: Path) -> RocksStore:
    """Return a store if no table is lost and its version is ours; else close it, and raise."""
    try:
        store.refuse_lost_tables()
        found = store.get(layout.VERSION_KEY)
        if found != _VERSION:
            raise refusals.incomplete(path) if found is None else refusals.other_version(path, found)
    except StoreError:
        store.close()
        raise
    return store


def _make(path: Path) -> None:
    """Make an empty store aside and rename it; RocksDB's lock keeps two processes from making it at once."""
    path = path.resolve()  # a link stays one
    aside = path.with_name(f".{path.name}.new")
    aside.mkdir(parents=True, exist_ok=True)
    options = store_options()
    options.create_if_missing(True)
    db = open_rocksdb(aside, AccessType.read_write(), options)
    db.put(layout.VERSION_KEY, _VERSION)
    db.close()
    try:
        aside.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
        shutil.rmtree(aside, ignore_errors=True)  # another process was quicker


def read_meta(path: Path) -> layout.Meta | None:
    """Return how far a store that nobody writes has come, None if nothing was ever committed.

    Raises:
        StoreError: It is not there, or cannot be read.
    """
    if not (path / "CURRENT").exists():
        raise refusals.absent(path)
    try:
        db = open_rocksdb(path, AccessType.read_only())
    except Exception as error:
        raise refusals.unusable(path, error) from None
    store = RocksStore(db, path)
    with closing(store):
        data = store.get(layout.META_KEY)
        return layout.unpack(layout.METAS, layout.META_KEY, data) if data else None


def open_secondary(path: Path, scratch: Path) -> RocksStore:
    """Open a store that a worker may be writing, for reading; `scratch` is a folder for RocksDB's own log.

    Raises:
        StoreError: It is not there, damaged, or another version wrote it.
    """
    if not (path / "CURRENT").exists():
        raise refusals.absent(path)
    refuse_odd_manifest(path)
    read = _log_sizes(path)
    try:
        db = _secondary(path, scratch)
    except Exception as error:
        refused = refusals.unusable(path, error, files_come_and_go=True)
        if isinstance(refused, StoreDamagedError) and only_log_damaged(path):
            refused = refusals.log_damaged(path, error)
        raise refused from None
    return _checked(RocksStore(db, path, scratch, read), path)


def _secondary(path: Path, scratch: Path | None) -> Rdict:
    db = open_rocksdb(path, AccessType.secondary(str(scratch)), store_options(ALL_FILES))
    db.try_catch_up_with_primary()
    return db


def _owner_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")


def _owner(path: Path) -> str:
    try:
        return _owner_file(path).read_text(errors="replace")[:300] or "another process"
    except OSError:
        return "another process"
