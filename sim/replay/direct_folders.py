"""The folders of a replay in one process: whether it may have them, and that they are its own.

`direct.json` marks a folder that such a run has made; only those are deleted for another run.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from sim.errors import SimError

_MARK: Final = "direct.json"
_ASIDE: Final = ".before-direct"  # in the data directory


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
    """Make the run's folders, empty and marked as its own; raises as check_folders.

    What was there lies aside within the context. Where that ends with an error, the run was refused: everything is then
    as it was before. Else what was there is deleted.
    """
    check_folders(data_dir, name, restart=restart)
    folders, aside = _folders(data_dir, name), data_dir / _ASIDE
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    new = [parent for parent in (data_dir / "train", data_dir) if not parent.exists()]
    before = [(folder, aside / folder.relative_to(data_dir)) for folder in folders if folder.exists()]
    try:
        for folder, kept in before:
            kept.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(kept)
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / _MARK).write_bytes(msgspec.json.encode({"version": 1}))
        yield
    except BaseException:
        _put_back(folders, before, new)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_back(folders: tuple[Path, ...], before: list[tuple[Path, Path]], new: list[Path]) -> None:
    """Undo what `claimed` has done."""
    kept = dict(before)
    for folder in folders:
        if folder not in kept or kept[folder].exists():
            shutil.rmtree(folder, ignore_errors=True)
    for folder, aside in before:
        if aside.exists():
            aside.rename(folder)
    shutil.rmtree(folders[0].parent / _ASIDE, ignore_errors=True)
    for parent in new:
        with suppress(OSError):
            parent.rmdir()


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
