import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import Timeout

from model.storage.locks import lock_file

HOLD = """
import sys
from pathlib import Path
from model.storage.locks import lock_file
lock = lock_file(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    """kill -9 of the holder frees it at once; the file stays, so that its name means one lock."""
    path = tmp_path / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Timeout):
            lock_file(path).acquire(blocking=False)
        holder.kill()
    with lock_file(path).acquire(blocking=False):
        pass
    assert path.exists()


def test_another_thread_may_release_it(tmp_path: Path) -> None:
    """A trainer is made in one thread and may be closed in another."""
    lock = lock_file(tmp_path / ".lock")
    lock.acquire(blocking=False)
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    with lock_file(tmp_path / ".lock").acquire(blocking=False):
        pass
