"""The folders of a replay in one process: whether it may have them, and that they are its own.

`direct.json` marks a folder that such a run has made; only those are deleted for another run. A folder comes with its
mark and goes with it, each by one rename, so a process that is killed leaves no half of one: what it was making or
deleting has a name that begins with a dot, and the next run deletes it.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from filelock import Timeout

from model.storage.locks import lock_file
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
    folders = _folders(data_dir, name)
    for folder in folders:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise SimError(f"{folder} is a link or a file, where --direct makes a folder; choose another --data-dir.")
    there = [folder for folder in folders if folder.exists() and any(folder.iterdir())]
    if there and not restart:
        raise SimError(
            f"{there[0]} is there already, and --direct begins with nothing; "
            "delete an earlier run of --direct by --restart, or choose another --data-dir."
        )
    for folder in there:
        _refuse_to_delete(folder, folder)
    for folder in (data_dir / "snapshots", data_dir / "snapshots" / name):
        if (folder.is_symlink() or folder.exists()) and not folder.is_dir():
            raise SimError(f"{folder} is no folder, where snapshots lie; move it, or choose another --data-dir.")


def refuse_inside(data_dir: Path, name: str, file: Path) -> None:
    """Refuse a metrics file in a folder that a run makes anew: lines of other trainers would go with it.

    Raises:
        SimError: It lies there.
    """
    named = Path(os.path.normpath(Path.cwd() / file))  # a link there would go with the folder
    above = [named, *named.parents, file.resolve(), *file.resolve().parents]
    for folder in _folders(data_dir, name):
        if folder.resolve() in [each.resolve() for each in above]:
            raise SimError(
                f"The metrics file {file} is or lies in {folder}, which --direct makes anew; choose another place, or "
                "leave out --metrics for metrics.jsonl there."
            )


@contextmanager
def claimed(data_dir: Path, name: str, *, restart: bool) -> Iterator[Callable[[], None]]:
    """Keep other runs from beginning in a data directory, and yield what makes the run's folders anew.

    Until that is called nothing has changed; afterwards they are empty and marked as the run's own. It raises SimError
    as this does, since others may have come meanwhile, and where folders cannot be made; all is then as it was.

    Raises:
        SimError: As check_folders; or another process is in this context.
    """
    new = [parent for parent in (data_dir / "train", data_dir) if not parent.exists()]
    with _alone(data_dir):
        try:
            check_folders(data_dir, name, restart=restart)
            yield partial(_renew, data_dir, name, restart=restart)
        finally:
            for parent in new:
                with suppress(OSError):
                    parent.rmdir()


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Make a folder and hold a lock on it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    handle = os.open(data_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(handle), data_dir.stat())  # it may have been deleted in between
        except OSError:
            same = False
        if not same:
            raise SimError(
                f"Another process begins a --direct in {data_dir}; wait for it, or choose another --data-dir."
            )
        yield
    finally:
        os.close(handle)


def _renew(data_dir: Path, name: str, *, restart: bool) -> None:
    """Put empty folders with a mark in the place of these."""
    check_folders(data_dir, name, restart=restart)
    folders, aside = _folders(data_dir, name), list[Path]()
    try:
        for folder in folders:
            _delete(_beside(folder, "new"), _beside(folder, "old"))
            _beside(folder, "new").mkdir(parents=True)
            (_beside(folder, "new") / _MARK).write_bytes(msgspec.json.encode({"version": 1}))
        for folder in filter(Path.exists, folders):
            folder.rename(_beside(folder, "old"))
            aside.append(folder)
            _refuse_to_delete(_beside(folder, "old"), folder)  # somebody may have come since the look above
        for folder in folders:
            _beside(folder, "new").rename(folder)
    except BaseException as error:
        stuck = [folder for folder in aside if not _is_put_back(folder)]
        _delete(*(_beside(folder, "new") for folder in folders))
        if stuck:
            raise SimError(
                f"{stuck[0]} is in use by another process now; what was there lies in {_beside(stuck[0], 'old')}."
            ) from error
        if isinstance(error, OSError):
            raise SimError(
                f"The folders of a --direct in {data_dir} cannot be made: {error.strerror or error}; make room, or "
                "choose another --data-dir."
            ) from error
        raise
    _delete(*(_beside(folder, "old") for folder in folders))


def _is_put_back(folder: Path) -> bool:
    """Bring an old folder back, unless another process has put something into the new one, and return whether."""
    with suppress(OSError):
        (folder / _MARK).unlink(missing_ok=True)
        folder.rmdir()
    if folder.exists():
        return False
    _beside(folder, "old").rename(folder)
    return True


def _refuse_to_delete(folder: Path, name: Path) -> None:
    """Refuse what is not to be deleted; `name` is where it belongs."""
    if any(folder.iterdir()) and not (folder / _MARK).exists():
        raise SimError(f"{name} was not made by --direct, so --restart keeps it; choose another --data-dir.")
    if any(map(_is_open, folder.glob("*/LOCK"))) or any(map(_is_held, folder.glob(".lock"))):
        raise SimError(f"{name} is in use by another process; stop that first.")


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _delete(*folders: Path) -> None:
    for folder in folders:
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)


def _folders(data_dir: Path, name: str) -> tuple[Path, Path]:
    return data_dir / "store", data_dir / "train" / name


def _is_open(path: Path) -> bool:
    """Return whether another process has this store open: RocksDB holds a POSIX lock on its file."""
    with path.open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _is_held(path: Path) -> bool:
    """Return whether a trainer holds this lock."""
    try:
        with lock_file(path).acquire(blocking=False):
            return False
    except Timeout:
        return True
