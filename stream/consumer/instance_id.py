"""Leases a Kafka `group.instance.id` by a file lock: NAME-1, NAME-2, …, each for one living process at a time.

A worker that takes over a dead worker's id rejoins as that member, so its partitions move at once instead of after the
session timeout. The system releases the lock of a process that ends, however it ends. Lock files are kept: `*.seat`.
"""

import itertools
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final

from filelock import FileLock, Timeout
from xxhash import xxh3_64_hexdigest

from stream.errors import HstuError

SEATS: Final = "seats"
"""The folder of a data directory that has the locks of its workers."""


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
            leased.name = f"{leased.name}-{place_of(folder)}"
            return leased
    raise AssertionError("unreachable")


def lease_named(folder: Path, name: str) -> InstanceId:
    """Lease one id, which is then the same wherever the folder lies.

    Raises:
        HstuError: Another process has it.
    """
    leased = lease(folder / f"{name}.seat")
    if leased is None:
        raise HstuError(
            f"Another worker of {folder.parent} has the name {name}; give each its own stream.instance_id, or none."
        )
    return leased


def place_of(folder: Path) -> str:
    """Return what tells a folder from any other one and from its copies, on this machine or another.

    It is the same in all processes and containers that share the folder, whose locks they share then as well. A volume
    that moves to another machine gets another name there: were it the same in two places, the two would take the
    partitions from each other for ever.
    """
    stat = folder.stat()
    return xxh3_64_hexdigest(f"{_running_kernel()} {stat.st_dev} {stat.st_ino}".encode())[:12]


def _running_kernel() -> str:
    """Return what is unique to a machine since it was started: cloned machines have one machine id, not one boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return str(uuid.getnode())
