"""The marks of a store that is behind, since a worker of another host has its partition: files beside it.

    p0.standby    it stands by: it follows that worker's backups
    p0.left       it was left: it stays as it was (worker/left_stores.py)

A mark goes when a worker of this host opens the store to write it.
"""

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stream.errors import StoreError

_ASK: Final = "set stream.peer_token_file here and at the workers, and bootstrap here, so that the worker is asked."


def mark_standby(path: Path) -> None:
    """Mark a store as one that stands by."""
    _standby(path).touch()
    _left(path).unlink(missing_ok=True)


def mark_left(path: Path) -> None:
    """Mark a store as one that was left, as of now."""
    _left(path).touch()
    _standby(path).unlink(missing_ok=True)


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
    if stands_by(path):
        raise StoreError(
            f"The store {path} only stands by for a worker of another host, and is behind that one's; {_ASK}"
        )
    if at := left_at(path):
        raise StoreError(
            f"The store {path} was left, as was seen at {at:%Y-%m-%d %H:%M} UTC: a worker of another host has its "
            f"partition, and has read more since; {_ASK}"
        )


def left_behind(path: Path) -> StoreError:
    """Return the refusal of a store that no worker of this host uses, and that the group of workers has passed."""
    return StoreError(
        f"The store {path} was left: no worker of this host has it open, and workers have read more of its partition, "
        "as the offsets of their group say; start the worker of this host if it is to have the partition, or "
        f"{_ASK} Without bootstrap it is read as it is."
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


def _standby(path: Path) -> Path:
    return path.with_name(f"{path.name}.standby")


def _left(path: Path) -> Path:
    return path.with_name(f"{path.name}.left")
