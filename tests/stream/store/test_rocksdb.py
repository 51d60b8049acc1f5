"""A store on disk: opened, written in whole batches, followed by secondaries, or refused."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.errors import StoreBusyError, StoreError
from stream.store import layout
from stream.store.rocksdb import open_secondary, open_store


def test_a_batch_is_written_whole_and_scanned_in_order(tmp_path: Path) -> None:
    """Puts and deletes of one batch; a prefix gives its keys and no others, at the end of the key space too."""
    store = open_store(tmp_path)
    store.write([(b"a1", b"x"), (b"a2", b"y"), (b"b", b"z"), (b"a\xff\xff", b"last")])
    store.write([(b"a1", None), (b"a0", b"w")])
    assert list(store.scan(b"a")) == [(b"a0", b"w"), (b"a2", b"y"), (b"a\xff\xff", b"last")]
    assert store.get(b"a1") is None
    store.close()


def test_an_open_store_is_not_opened_twice(tmp_path: Path) -> None:
    """The sentence names the folder."""
    store = open_store(tmp_path)
    with pytest.raises(StoreBusyError, match=f"{tmp_path} is open in another process"):
        open_store(tmp_path)
    store.close()


def test_a_store_open_in_another_process_is_busy(tmp_path: Path) -> None:
    """Across processes RocksDB reports the lock in other words than within one."""
    store = open_store(tmp_path)
    code = (
        "import sys; from pathlib import Path; from stream.errors import StoreBusyError\n"
        "from stream.store.rocksdb import open_store\n"
        "try:\n    open_store(Path(sys.argv[1]))\nexcept StoreBusyError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"The store {tmp_path} is open in another process")
    store.close()


def _file_in_the_way(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()


def _lock_is_a_directory(path: Path) -> None:
    (path / "LOCK").mkdir(parents=True)


def _lock_leads_nowhere(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "LOCK").symlink_to(path / "absent" / "LOCK")


@pytest.mark.parametrize("block", [_file_in_the_way, _lock_is_a_directory, _lock_leads_nowhere])
@pytest.mark.parametrize("folder", ["plain", "blocks", "lock hold by current process, "])
def test_a_store_that_cannot_be_opened_is_not_called_busy(
    tmp_path: Path, folder: str, block: Callable[[Path], None]
) -> None:
    """Whatever the path is called: no other worker is to blame, and nobody should wait for one."""
    path = tmp_path / folder / "p2"
    block(path)
    with pytest.raises(StoreError, match="cannot be opened or read") as refused:
        open_store(path)
    assert not isinstance(refused.value, StoreBusyError)


def test_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Both versions are named; the data stay."""
    store = open_store(tmp_path)
    store.write([(layout.VERSION_KEY, (99).to_bytes(4, "little")), (b"kept", b"1")])
    store.close()
    for open_again in (lambda: open_store(tmp_path), lambda: open_secondary(tmp_path, tmp_path / "scratch")):
        with pytest.raises(StoreError, match=r"format 99.*writes 2"):
            open_again()


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    """Damaged files are a sentence, not a traceback."""
    (tmp_path / "CURRENT").write_text("nonsense")
    with pytest.raises(StoreError, match="cannot be opened or read"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="There is no store in"):
        open_secondary(tmp_path / "absent", tmp_path / "scratch")


_WRITER = """
import sys
from collections.abc import Callable
from pathlib import Path
from stream.store.rocksdb import open_store
store = open_store(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    text = str(number).encode()
    store.write([(b"x", text), (b"y%d" % (number % 50), text * 100), (b"z", text)])
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    """After SIGKILL in mid-write every batch is there whole or not at all, and all that was acknowledged is there."""
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen = int(line)
        if seen == 500:
            os.kill(process.pid, signal.SIGKILL)
            break
    seen = max([seen, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.wait()
    process.stdout.close()
    store = open_store(tmp_path)
    x, z = store.get(b"x"), store.get(b"z")
    assert x is not None
    assert x == z
    assert int(x) >= seen
    assert store.get(b"y%d" % (int(x) % 50)) == x * 100
    store.close()


_FILLER = """
import resource, signal, sys
from pathlib import Path
from stream.errors import StoreBusyError, StoreError
from stream.store.rocksdb import open_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
number = 0
try:
    while True:
        number += 1
        text = str(number).encode()
        store.write([(b"x", text), (b"y%d" % number, bytes(50_000)), (b"z", text)])
except StoreError as error:
    print(number, error)
"""


def test_a_full_disk_is_a_sentence_and_harms_nothing(tmp_path: Path) -> None:
    """Where no byte more can be written the batch fails whole, and everything before it is there afterwards."""
    done = subprocess.run([sys.executable, "-c", _FILLER, str(tmp_path)], capture_output=True, text=True, check=True)
    number, sentence = done.stdout.split(" ", 1)
    assert f"The store {tmp_path} cannot be written" in sentence
    assert "make room" in sentence
    store = open_store(tmp_path)
    assert store.get(b"x") == store.get(b"z") == str(int(number) - 1).encode()
    assert len(list(store.scan(b"y"))) == int(number) - 1
    store.close()


def test_a_store_that_is_just_being_made_is_not_there_yet(tmp_path: Path) -> None:
    """A worker writes the version last; nobody is told to delete what has none yet."""
    store = open_store(tmp_path / "store")
    store.write([(layout.VERSION_KEY, None)])
    with pytest.raises(StoreError, match="There is no store in"):
        open_secondary(tmp_path / "store", tmp_path / "scratch")
    store.close()


def test_what_a_secondary_logs_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each catch_up adds a line to RocksDB's own log, which is rotated; its last two files are kept."""
    monkeypatch.setattr("stream.store.rocksdb._LOG_BYTES", 16_384)
    store = open_store(tmp_path / "store")
    secondary = open_secondary(tmp_path / "store", tmp_path / "scratch")
    for _ in range(1000):
        secondary.catch_up()
    logs = [file.stat().st_size for file in (tmp_path / "scratch").glob("LOG*")]
    assert len(logs) == 2
    assert sum(logs) < 2 * 17_000
    secondary.close()
    store.close()
