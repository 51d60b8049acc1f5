"""The folders of a replay in one process: whether it may have them, and that they are its own.

`direct.json` marks a folder that such a run has made; only those are deleted for another run.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from sim.errors import SimError

_MARK: Final = "direct.json"
_ASIDE: Final = ".before-direct"  # in the data directory
_GONE: Final = ".before-direct-gone"  # the same, on its way to be deleted


def check_folders(data_dir: Path, name: str, *, restart: bool) -> None:
    """Check that a run may begin with empty folders.

    Args:
        data_dir: Where stores and trainers are kept.
        name: The trainer.
        restart: Whether what an earlier run of this kind has left may be deleted.

    Raises:
        SimError: There is something already that may not be deleted.
    """
    there = [folder for folder in _folders(data_dir, name) if folder.exists() and any(folder.iterdir())]
    if there and not restart:
        raise SimError(
            f"{there[0]} is there already, and --direct begins with nothing; "
            "delete an earlier run of --direct by --restart, or choose another --data-dir."
        )
    for folder in there:
        if not (folder / _MARK).exists():
            raise SimError(f"{folder} was not made by --direct, so --restart keeps it; choose another --data-dir.")
        if any(map(_is_locked, folder.glob("*/LOCK"))):
            raise SimError(f"{folder} is in use by another process; stop that first.")


@contextmanager
def claimed(data_dir: Path, name: str, *, restart: bool) -> Iterator[None]:
    """Make the run's folders, empty and marked as its own.

    What was there lies aside within the context. Where that ends with an error, the run was refused: everything is then
    as it was before, and where the process is killed, the next one puts it back. Else what was there is deleted.

    Raises:
        SimError: As check_folders; or another process is in this context; or what a killed one had set aside cannot be
            put back.
    """
    new = [parent for parent in (data_dir / "train", data_dir) if not parent.exists()]
    try:
        with _alone(data_dir / _ASIDE):
            _put_back(data_dir)
            check_folders(data_dir, name, restart=restart)
            yield from _claimed(data_dir, _folders(data_dir, name))
    finally:
        for parent in new:
            with suppress(OSError):
                parent.rmdir()


def _claimed(data_dir: Path, folders: tuple[Path, Path]) -> Iterator[None]:
    aside, gone = data_dir / _ASIDE, data_dir / _GONE
    shutil.rmtree(gone, ignore_errors=True)
    try:
        for folder in filter(Path.exists, folders):
            kept = aside / folder.relative_to(data_dir)
            kept.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(kept)
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / _MARK).write_bytes(msgspec.json.encode({"version": 1}))
        yield
    except BaseException:
        for folder in folders:
            if (folder / _MARK).exists():
                shutil.rmtree(folder)
        _put_back(data_dir)
        raise
    aside.rename(gone)  # at once, so that nobody puts a part of it back
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def _alone(aside: Path) -> Iterator[None]:
    """Hold a lock on a folder, which is made, and deleted if it is empty at the end."""
    aside.mkdir(parents=True, exist_ok=True)
    at = os.open(aside, os.O_RDONLY)
    try:
        fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(at)
        raise SimError(
            f"Another process begins a --direct in {aside.parent}; wait for it, or choose another --data-dir."
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            aside.rmdir()
        os.close(at)


def _put_back(data_dir: Path) -> None:
    """Put back what was set aside, in the place of what was made after it."""
    aside = data_dir / _ASIDE
    for kept in filter(Path.exists, (aside / "store", *sorted((aside / "train").glob("*")))):
        folder = data_dir / kept.relative_to(aside)
        if folder.exists() and not (folder / _MARK).exists():
            raise SimError(
                f"{kept} was set aside by a --direct that was killed, and {folder} was not made by it; "
                "move one of the two away."
            )
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        kept.rename(folder)
    with suppress(OSError):
        (aside / "train").rmdir()


def _folders(data_dir: Path, name: str) -> tuple[Path, Path]:
    return data_dir / "store", data_dir / "train" / name


def _is_locked(path: Path) -> bool:
    """Return whether another process has this store open: RocksDB holds a POSIX lock on its file."""
    with path.open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
