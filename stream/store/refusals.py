"""What a store that cannot be used is told to be: absent, half there, damaged, on a full disk, of another version."""

import errno
import os
from pathlib import Path
from typing import Final

from stream.errors import StoreDamagedError, StoreError
from stream.store import layout

_GONE: Final = "IO error: No such file or directory: While open"  # a file that RocksDB's manifest names


def absent(path: Path) -> StoreError:
    """Return the refusal of a folder in which there is no store."""
    return StoreError(
        f"There is no store in {path}: ask on the host whose worker has this partition, or start a worker with this "
        "data directory."
    )


def incomplete(path: Path) -> StoreError:
    """Return the refusal of a folder in which a part of a store lies, or none."""
    return StoreError(
        f"The folder {path} is not empty, and no whole store: CURRENT, or the version in it, is missing, as in half a "
        "copy. Nothing in it was touched. Move it away, and copy all of it or run hstu store restore: a store is made "
        "only in an empty folder."
    )


def damaged(path: Path, why: str) -> StoreDamagedError:
    """Return the refusal of a store whose files are not those that RocksDB wrote."""
    return StoreDamagedError(
        f"The store {path} is damaged: {why}; stop its worker and restore it from a backup (hstu store restore), or "
        f"delete this folder: {layout.REBUILT}"
    )


def log_damaged(path: Path, error: Exception) -> StoreDamagedError:
    """Return the refusal of a store whose log of the last writes alone is damaged."""
    return StoreDamagedError(
        f"The store {path} is damaged, in its log of the last writes alone: {error}; start its worker again: it goes "
        "back to the batch before the damage, and reads what came after it from Kafka again."
    )


def not_a_folder(path: Path) -> StoreError:
    """Return the refusal of a file where a store's folder should be."""
    return StoreError(
        f"The store {path} cannot be opened or read: it is a file, where a folder should be; move it away, and start "
        "again."
    )


def refuse_other_partition(meta: layout.Meta, number: int, path: Path | str) -> None:
    """Check that a store is of the partition in whose place it lies.

    Raises:
        StoreError: It is of another one.
    """
    if meta.partition not in (None, number):
        raise StoreError(
            f"The store {path} is of partition {meta.partition}, not of {number}: its folder was copied or renamed. "
            f"Nothing in it was touched; move it away, and put that of partition {number} in its place, or restore "
            f"that (hstu store restore --partition {number})."
        )


def unusable(
    path: Path, error: Exception, *, what: str = "cannot be opened or read", files_come_and_go: bool = False
) -> StoreError:
    """Return what RocksDB's error means; to a secondary, files may be missing that its writer has just replaced."""
    text = str(error)
    gone = _GONE in text
    if (gone and not files_come_and_go) or (text.startswith("Corruption: ") and not gone):
        return damaged(path, text)
    if any(os.strerror(number) in text for number in (errno.ENOSPC, errno.EDQUOT)):
        return StoreError(
            f"The store {path} {what}, since its disk is full: {text}; make room and start again: nothing written "
            "before is harmed."
        )
    if isinstance(error, OSError):  # of rocksdict itself: RocksDB's errors are bare Exceptions
        return StoreError(
            f"The store {path} {what}: {text}. Whoever reads it writes rocksdict-config.json in its folder, too: do it "
            "as the user of the worker, where that folder can be written."
        )
    return StoreError(f"The store {path} {what}: {text}; see to what it names, and start again.")


def renamed(error: StoreError, copy: Path, store: Path) -> StoreError:
    """Return the refusal of a copy by links as that of the store itself, which is the one that users know."""
    return type(error)(str(error).replace(str(copy), str(store)))


def other_version(path: Path, found: bytes) -> StoreError:
    """Return the refusal of a store that another version wrote."""
    return StoreError(
        f"The store {path} has format {int.from_bytes(found, 'little')}; this hstu-stream writes {layout.VERSION}. "
        f"Use the version that wrote it, or delete the folder: {layout.REBUILT}"
    )


def refuse_other_count(meta: layout.Meta, number: int, partitions: int) -> None:
    """Check that a store was made for this number of partitions.

    Raises:
        StoreError: It was made for another.
    """
    if meta.partitions != partitions:
        raise StoreError(
            f"The store of partition {number} was made for {meta.partitions} partitions, but the settings say "
            f"{partitions}; a user's home depends on it: set stream.partitions = {meta.partitions}; more are made by "
            "hstu topics rescale (docs/recovery.md)."
        )
