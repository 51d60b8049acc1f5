"""The folders of a replay in one process: whether it may have them, and that they are its own.

`direct.json` marks a folder that such a run has made; only those are deleted for another run.
"""

import fcntl
import shutil
from pathlib import Path
from typing import Final

import msgspec

from sim.errors import SimError

_MARK: Final = "direct.json"


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


def claim_folders(data_dir: Path, name: str, *, restart: bool) -> None:
    """Make the run's folders, empty and marked as its own; raises as check_folders."""
    check_folders(data_dir, name, restart=restart)
    for folder in _folders(data_dir, name):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _MARK).write_bytes(msgspec.json.encode({"version": 1}))


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
