"""The mark of a store that only stands by: a worker of another host has the partition, and its own store is ahead.

A file p0.standby beside the store. It goes when a worker of this host opens the store to write it.
"""

from pathlib import Path

from stream.errors import StoreError


def mark_standby(path: Path) -> None:
    """Mark a store."""
    _mark(path).touch()


def unmark_standby(path: Path) -> None:
    """Take the mark away, if there is one."""
    _mark(path).unlink(missing_ok=True)


def stands_by(path: Path) -> bool:
    """Return whether a store only stands by."""
    return _mark(path).exists()


def refuse_standby(path: Path) -> None:
    """Check that a store does not only stand by.

    Raises:
        StoreError: It does.
    """
    if stands_by(path):
        raise StoreError(
            f"The store {path} only stands by for a worker of another host, and is behind that one's; set "
            "stream.peer_token_file here and at the workers, and bootstrap here, so that the worker is asked."
        )


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.standby")
