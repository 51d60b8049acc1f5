"""The marks of a store that is behind, since a worker of another host has its partition: files beside it.

    p0.standby    it stands by: it follows that worker's backups
    p0.left       it was left: it stays as it was, and is deleted some days after (worker/left_stores.py)

A mark goes when a worker of this host opens the store to write it.
"""

import fcntl
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stream.errors import StoreError

LEFT_DAYS: Final = 7
"""Days after which a store that was left is deleted: until then a partition that comes back has it."""


def mark_standby(path: Path) -> None:
    """Mark a store as one that stands by."""
    _standby(path).touch()
    _left(path).unlink(missing_ok=True)


def mark_left(path: Path) -> None:
    """Mark a store as one that was left, as of now."""
    _left(path).touch()


def unmark(path: Path) -> None:
    """Take the marks away, if there are any."""
    for mark in (_standby(path), _left(path)):
        mark.unlink(missing_ok=True)


def stands_by(path: Path) -> bool:
    """Return whether a store only stands by."""
    return _standby(path).exists()


def left_at(path: Path) -> datetime | None:
    """Return when a store was marked as left, None where it was not."""
    try:
        return datetime.fromtimestamp(_left(path).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def is_behind(path: Path) -> bool:
    """Return whether a store has one of these marks."""
    return stands_by(path) or left_at(path) is not None


def refuse_behind(path: Path) -> None:
    """Check that a store is not behind a worker of another host.

    Raises:
        StoreError: It is.
    """
    ask = "set stream.peer_token_file here and at the workers, and bootstrap here, so that the worker is asked."
    if stands_by(path):
        raise StoreError(
            f"The store {path} only stands by for a worker of another host, and is behind that one's; {ask}"
        )
    if at := left_at(path):
        raise StoreError(
            f"The store {path} was left, as was seen at {at:%Y-%m-%d %H:%M} UTC: a worker of another host has its "
            f"partition, and has read more since; {ask}"
        )


def is_open_elsewhere(path: Path) -> bool:
    """Return whether another process has a store open for writing.

    This one must not: by closing any handle of LOCK it would give up its own lock.
    """
    try:
        handle = os.open(path / "LOCK", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def deleted(path: Path) -> Path:
    """Return the name that a store has while it is being deleted."""
    return path.resolve().with_name(f".{path.name}.deleted")


def put_aside(path: Path) -> Path:
    """Rename a store that nobody has open, remove what lies beside it, and return its new name, to be deleted."""
    place, aside = path.resolve(), deleted(path)  # a link stays one
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    for leftover in place.parent.glob(f".{path.name}.*"):
        if leftover.is_dir() and leftover != aside:
            shutil.rmtree(leftover, ignore_errors=True)
    path.with_name(f"{path.name}.owner").unlink(missing_ok=True)
    unmark(path)
    return aside


def _standby(path: Path) -> Path:
    return path.with_name(f"{path.name}.standby")


def _left(path: Path) -> Path:
    return path.with_name(f"{path.name}.left")
