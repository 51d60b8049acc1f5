"""Files that survive a power cut: written aside, fsynced, and only then given their name."""

import errno
import os
import stat
import tempfile
from pathlib import Path


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and fsync it; its entry in the folder is durable only after sync_directory."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def check_plain(path: Path) -> None:
    """Check that a path leads to a file; to open a pipe would wait for its writer.

    Raises:
        OSError: It does not.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")


def read_plain(path: Path) -> bytes:
    """Return the bytes of a file; raises OSError where it is none, or cannot be read."""
    check_plain(path)
    return path.read_bytes()


def sync_directory(path: Path) -> None:
    """Make the directory's entries durable: a rename is so only after this."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, data: bytes, *, keeps_mode: bool = False) -> None:
    """Replace a file, or make it, so that readers and crashes find the old content or the new, and never a part.

    The file is its owner's alone, or has the mode of the one before.

    The folder must exist. The file aside is hidden and has a unique name, so that two writers do not mix; it is
    removed if an error comes before the rename.

    Raises:
        OSError: The disk is full or not writable; the old content is as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if keeps_mode and path.is_file():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def rename_synced(aside: Path, final: Path) -> None:
    """Rename a directory durably: fsync of the directory, rename, fsync of its parent."""
    sync_directory(aside)
    aside.rename(final)
    sync_directory(final.parent)
