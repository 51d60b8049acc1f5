"""Seats: names that one living process at a time has. Whoever sits down in a killed one's seat is, to Kafka, the dead.

A seat is a locked file. The system unlocks it when its process is gone, however it went; so the next one that starts
finds the seat free and takes it, and with it, at once, the partitions that Kafka keeps until the session times out.
"""

import fcntl
import itertools
import os
import uuid
from pathlib import Path
from types import TracebackType


class InstanceId:
    """A locked file; released by `close`, by leaving a with block, or by the end of the process."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    def close(self) -> None:
        """Stand up."""
        os.close(self._descriptor)

    def __enter__(self) -> "InstanceId":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def lease(path: Path) -> InstanceId | None:
    """Take one seat, made if it is new; None where another process, or another part of this one, sits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return InstanceId(path.stem, descriptor)


def lease_free(folder: Path, name: str) -> InstanceId:
    """Take the first free one of the seats NAME-1, NAME-2, … of a folder; its name is unlike those of other folders."""
    for number in itertools.count(1):
        seat = lease(folder / f"{name}-{number}.seat")
        if seat is not None:
            seat.name = f"{seat.name}-{_folder_id(folder)}"
            return seat
    raise AssertionError("unreachable")


def _folder_id(folder: Path) -> str:
    """Give a folder's own random id, made once by whoever comes first."""
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
