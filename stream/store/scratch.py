"""Temporary folders for RocksDB's own logs of secondaries: locked as long as their process lives.

The system releases the lock of a process that ends, however it ends; whoever makes the next folder removes those.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_PREFIX: Final = "hstu-reader-"


class Scratch(NamedTuple):
    """A temporary folder, and the open handle that holds its lock."""

    path: Path
    handle: int


def make_scratch() -> Scratch:
    """Make a temporary folder, and remove those whose processes have been killed."""
    path, handle = _new()
    for stray in path.parent.glob(f"{_PREFIX}*"):
        if stray != path and (dead := _lock(stray)) is not None:
            remove_scratch(Scratch(stray, dead))
    return Scratch(path, handle)


def _new() -> Scratch:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if (handle := _lock(path)) is not None:  # else another process has just taken it for a dead one's
            return Scratch(path, handle)


def remove_scratch(scratch: Scratch) -> None:
    """Remove the folder, then release its lock."""
    shutil.rmtree(scratch.path, ignore_errors=True)
    os.close(scratch.handle)


def _lock(path: Path) -> int | None:
    """Return a handle that holds the folder's lock; None where another process has it, or it is none of our folders."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(handle).st_uid == os.getuid():
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
        except OSError:
            pass
        os.close(handle)
    return None
