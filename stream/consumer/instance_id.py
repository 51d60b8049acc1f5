"""Leases a Kafka `group.instance.id` by a file lock: NAME-1, NAME-2, …, each for one living process at a time.

A worker that takes over a dead worker's id rejoins as that member, so its partitions move at once instead of after the
session timeout. The system releases the lock of a process that ends, however it ends. Lock files are kept: `*.seat`.
"""

import itertools
import os
import uuid
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout


class InstanceId:
    """A leased id; free again after `close`, after a with block, or when the process ends."""

    def __init__(self, name: str, lock: FileLock) -> None:
        self.name = name
        self._lock = lock

    def close(self) -> None:
        """Let others lease the id."""
        self._lock.release()

    def __enter__(self) -> "InstanceId":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def lease(path: Path) -> InstanceId | None:
    """Lease the id of one lock file, made if it is new; return None where somebody has it, also in this process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return InstanceId(path.stem, lock)


def lease_free(folder: Path, name: str) -> InstanceId:
    """Lease the first free one of the ids NAME-1, NAME-2, … of a folder; no other folder has ids of the same name."""
    for number in itertools.count(1):
        leased = lease(folder / f"{name}-{number}.seat")
        if leased is not None:
            leased.name = f"{leased.name}-{_folder_id(folder)}"
            return leased
    raise AssertionError("unreachable")


def _folder_id(folder: Path) -> str:
    """Return a folder's own random id, made once by the first process that asks."""
    path = folder / "id"
    aside = folder / f".id-{os.getpid()}"
    if not path.exists():
        aside.write_text(uuid.uuid4().hex[:12])
        try:
            os.link(aside, path)  # unlike a rename, it never replaces what another process has made
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    return path.read_text()
