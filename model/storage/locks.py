"""Lock files between processes, by flock: the kernel releases a lock when its process ends, also by kill -9."""

from pathlib import Path

from filelock import FileLock


def lock_file(path: Path) -> FileLock:
    """Return a lock on a file, not yet acquired; the file is made by the first acquire and stays.

    It is held until any thread calls `release`, or until the object is dropped. `acquire(blocking=False)` raises
    filelock.Timeout where another process holds it.
    """
    return FileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)
