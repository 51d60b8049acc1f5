"""The sequence store of one partition: RocksDB by rocksdict, opened, checked, and written one batch at a time.

Foreign exceptions stop here: a store that is open elsewhere, damaged, foreign or unwritable is a StoreError.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from stream.errors import StoreBusyError, StoreError
from stream.store import layout

REBUILT: Final = (  # what happens after a store's folder has been deleted
    "the worker builds it again from the events that Kafka still holds; where some are gone, trainers stop at the "
    "first new example and say what to do."
)
_ALL_FILES: Final = -1  # a secondary keeps every file open, since the writer deletes those that it has compacted
_LOG_BYTES: Final = 1 << 20  # of RocksDB's own log, which grows by a line with each catch_up, and of the one before
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

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return all keys with a prefix, in order, with their values."""

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

    def __init__(self, db: Rdict, path: Path, scratch: Path | None = None) -> None:
        self._db = db
        self._path = path
        self._scratch = scratch

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key.

        Raises:
            StoreError: The files are damaged.
        """
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise _damaged(self._path, error) from None
        return value

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return all keys with a prefix, in order, with their values."""
        options = ReadOptions()
        options.set_iterate_upper_bound(_after(prefix))
        found: list[tuple[Any, Any]] = list(self._db.items(from_key=prefix, read_opt=options))
        yield from found

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
            raise StoreError(
                f"The store {self._path} cannot be written: {error}; make room or mend the disk and start again: "
                "nothing written before is harmed."
            ) from None

    def purge(self, prefixes: Iterable[bytes]) -> None:
        """Clear what was deleted under these prefixes off the disk: a deletion alone leaves the bytes for a while."""
        for prefix in prefixes:
            self._db.compact_range(prefix, _after(prefix), _every_level())

    def catch_up(self) -> None:
        """Read what the writer has written since (secondaries only).

        Raises:
            StoreError: The files are damaged.
        """
        try:
            self._db.try_catch_up_with_primary()
        except Exception as error:
            raise _damaged(self._path, error) from None

    def close(self) -> None:
        """Close the files, so that another process may open them."""
        self._db.close()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)


def identity(path: Path) -> bytes:
    """Return what tells a store from one made later in the same folder, whose inode may be the same.

    Raises:
        StoreError: There is no store.
    """
    try:
        return (path / "IDENTITY").read_bytes()
    except OSError:
        raise _absent(path) from None


def open_store(path: Path) -> RocksStore:
    """Open a partition's store for writing; make it if it is new.

    Raises:
        StoreBusyError: Another process has it open.
        StoreError: Another version wrote it, or it is no store of ours.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        db = Rdict(str(path), _options())
    except Exception as error:
        if _BUSY.match(str(error)):
            raise StoreBusyError(f"The store {path} is open in another process; stop that worker first.") from None
        raise _damaged(path, error) from None
    store = RocksStore(db, path)
    found = store.get(layout.VERSION_KEY)
    if found is None:
        store.write([(layout.VERSION_KEY, _VERSION)])
    elif found != _VERSION:
        store.close()
        raise _other_version(path, found)
    return store


def open_secondary(path: Path, scratch: Path) -> RocksStore:
    """Open a store that a worker may be writing, for reading; `scratch` is a folder for RocksDB's own log.

    Raises:
        StoreError: It is not there, or another version wrote it.
    """
    if not (path / "CURRENT").exists():
        raise _absent(path)
    try:
        db = Rdict(str(path), _options(_ALL_FILES), access_type=AccessType.secondary(str(scratch)))
        db.try_catch_up_with_primary()
    except Exception as error:
        raise _damaged(path, error) from None
    store = RocksStore(db, path, scratch)
    found = store.get(layout.VERSION_KEY)
    if found != _VERSION:
        store.close()
        raise _absent(path) if found is None else _other_version(path, found)  # None: a worker is just making it
    return store


def _options(open_files: int = 256) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_max_open_files(open_files)
    options.set_write_buffer_size(32 << 20)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_LOG_BYTES)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(32 << 20))
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    return options


def _every_level() -> CompactOptions:
    options = CompactOptions()
    options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
    return options


def _after(prefix: bytes) -> bytes:
    """Return the first key after all that start with a prefix."""
    return (int.from_bytes(prefix) + 1).to_bytes(len(prefix))


def _absent(path: Path) -> StoreError:
    return StoreError(f"There is no store in {path}; start a worker with this data directory.")


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"The store {path} cannot be opened or read: {error}; mend the disk, or delete this folder: {REBUILT}"
    )


def _other_version(path: Path, found: bytes) -> StoreError:
    return StoreError(
        f"The store {path} has format {int.from_bytes(found, 'little')}; this hstu-stream writes {layout.VERSION}. "
        f"Use the version that wrote it, or delete the folder: {REBUILT}"
    )
