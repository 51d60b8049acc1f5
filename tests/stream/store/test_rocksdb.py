"""A store on disk: opened, written in whole batches, followed by secondaries, or refused."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from stream.errors import StoreBusyError, StoreDamagedError, StoreError
from stream.store import layout
from stream.store.rocksdb import RocksStore, open_secondary, open_store


def test_a_batch_is_written_whole_and_scanned_in_order(tmp_path: Path) -> None:
    """Puts and deletes of one batch; a prefix gives its keys and no others, at the end of the key space too."""
    store = open_store(tmp_path)
    store.write([(b"a1", b"x"), (b"a2", b"y"), (b"b", b"z"), (b"a\xff\xff", b"last")])
    store.write([(b"a1", None), (b"a0", b"w")])
    assert list(store.scan(b"a")) == [(b"a0", b"w"), (b"a2", b"y"), (b"a\xff\xff", b"last")]
    assert store.get(b"a1") is None
    store.close()


def test_an_open_store_is_not_opened_twice(tmp_path: Path) -> None:
    """The sentence names the folder, and who has it open."""
    store = open_store(tmp_path)
    with pytest.raises(StoreBusyError, match=f"{tmp_path} is open in process {os.getpid()} on {socket.gethostname()};"):
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
    assert done.stdout.startswith(f"The store {tmp_path} is open in process {os.getpid()} on ")
    store.close()


def _file_in_the_way(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()


def _lock_is_a_directory(path: Path) -> None:
    open_store(path).close()
    (path / "LOCK").unlink()
    (path / "LOCK").mkdir()


def _lock_leads_nowhere(path: Path) -> None:
    open_store(path).close()
    (path / "LOCK").unlink()
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
        with pytest.raises(StoreError, match=r"format 99.*writes 3"):
            open_again()


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    """Damaged files are a sentence, not a traceback."""
    (tmp_path / "CURRENT").write_text("nonsense")
    with pytest.raises(StoreError, match=r"is damaged: Corruption: CURRENT.*restore it from a backup"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="There is no store in"):
        open_secondary(tmp_path / "absent", tmp_path / "scratch")


_WRITER = """
import sys
import threading
import time
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


def test_a_disk_that_takes_no_more_is_a_sentence_and_harms_nothing(tmp_path: Path) -> None:
    """Where no byte more can be written the batch fails whole, and everything before it is there afterwards."""
    done = subprocess.run([sys.executable, "-c", _FILLER, str(tmp_path)], capture_output=True, text=True, check=True)
    number, sentence = done.stdout.split(" ", 1)
    assert f"The store {tmp_path} cannot be written" in sentence
    assert os.strerror(errno.EFBIG) in sentence
    store = open_store(tmp_path)
    assert store.get(b"x") == store.get(b"z") == str(int(number) - 1).encode()
    assert len(list(store.scan(b"y"))) == int(number) - 1
    store.close()


def _filled(path: Path) -> None:
    """Make a store whose records lie in more than one file."""
    for letter in (b"a", b"b"):
        store = open_store(path)
        store.write([(letter + str(i).encode(), bytes([i % 251]) * 900) for i in range(3000)])
        store.close()


def _contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def _without_current(path: Path) -> None:
    (path / "CURRENT").unlink()


def _without_current_and_manifest(path: Path) -> None:
    for file in (path / "CURRENT", *path.glob("MANIFEST*"), path / "IDENTITY"):
        file.unlink()


def _a_foreign_file(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()
    (path / "notes.txt").write_text("mine")


@pytest.mark.parametrize("harm", [_without_current, _without_current_and_manifest, _a_foreign_file])
def test_a_store_is_made_only_in_an_empty_folder(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Half a copy is refused as often as it is tried, and nothing in it is touched."""
    path = tmp_path / "p0"
    _filled(path)
    harm(path)
    before = _contents(path)
    for _ in range(2):
        with pytest.raises(
            StoreError, match=r"p0 is not empty, and no whole store.*Nothing in it was touched"
        ) as refused:
            open_store(path)
        assert "delete" not in str(refused.value)
        assert _contents(path) == before


def test_a_store_half_made_by_a_killed_worker_is_made_anew(tmp_path: Path) -> None:
    """Under its name it is whole or not there; an empty folder becomes a store."""
    (tmp_path / "p0").mkdir()
    (tmp_path / ".p0.new").mkdir()
    (tmp_path / ".p0.new" / "MANIFEST-000001").write_bytes(b"half")
    open_store(tmp_path / "p0").close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p0", "p0.owner"]


def test_a_store_may_be_made_where_a_link_leads(tmp_path: Path) -> None:
    """Partitions may lie on several disks."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "p0").symlink_to(tmp_path / "disk")
    open_store(tmp_path / "p0").close()
    assert (tmp_path / "p0").is_symlink()
    assert (tmp_path / "disk" / "CURRENT").exists()


def _flip_bytes(path: Path) -> None:
    for file in path.glob("*.sst"):
        data = bytearray(file.read_bytes())
        for place in range(0, len(data), 1500):
            data[place] ^= 255
        file.write_bytes(data)


def _lose_a_file(path: Path) -> None:
    next(path.glob("*.sst")).unlink()


def _lose_the_manifest(path: Path) -> None:
    next(path.glob("MANIFEST*")).unlink()


@pytest.mark.parametrize("harm", [_flip_bytes, _lose_a_file, _lose_the_manifest])
def test_a_damaged_store_is_called_damaged(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """It is not open in another process (a bLOCK checksum is no LOCK), and there is a store for whoever queries it."""
    path = tmp_path / "p0"
    _filled(path)
    harm(path)
    with pytest.raises(StoreDamagedError, match=r"p0 is damaged: .*restore it from a backup .*, or delete this folder"):
        open_store(path)
    with pytest.raises(StoreError) as unread:
        open_secondary(path, tmp_path / "scratch")
    assert "There is no store" not in str(unread.value)
    assert isinstance(unread.value, StoreDamagedError) or harm is _lose_the_manifest


@pytest.mark.parametrize("harm", [_flip_bytes, _lose_a_file])
def test_a_secondary_that_is_open_notices_damage(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """What the writer's last tables had is not unknown from then on; meanwhile a question costs no look at them."""
    path = tmp_path / "p0"
    with closing(open_store(path)) as store, closing(open_secondary(path, tmp_path / "scratch")) as secondary:
        store.write([(b"k%d" % number, b"v" * 500) for number in range(100)])
        store.checkpoint(tmp_path / "flushed")
        secondary.catch_up()
        assert secondary.get(b"k7") == b"v" * 500
        store.write([(b"l%d" % number, b"v" * 500) for number in range(100)])
        store.checkpoint(tmp_path / "again")
        harm(path)
        for _ in range(2):
            with pytest.raises(StoreDamagedError, match="p0 is damaged"):
                _read_now(secondary, b"l0")


def _read_now(secondary: RocksStore, key: bytes) -> bytes | None:
    secondary.catch_up()
    return secondary.get(key)


def test_what_the_writer_does_meanwhile_is_no_damage(tmp_path: Path) -> None:
    """Tables come and go under a reader; each of its questions is answered."""
    path, over = tmp_path / "p0", threading.Event()
    with closing(open_store(path)) as store, closing(open_secondary(path, tmp_path / "scratch")) as secondary:

        def write() -> None:
            for number in range(15):
                store.write([(b"k", b"%d" % number), (b"l%d" % number, b"v" * 500)])
                store.checkpoint(tmp_path / "flushed")
                store.purge([b"k", b"l"])
            over.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not over.is_set():
            _read_now(secondary, b"k")
        writer.join()
        assert _read_now(secondary, b"k") == b"14"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_the_start_is_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The store is healthy: room is what it needs, and nobody is told to delete it. The text is RocksDB's own."""
    path = tmp_path / "p0"
    open_store(path).close()

    def full(*_: object, **__: object) -> None:
        text = os.strerror(number)
        raise Exception(f"IO error: {text}: While appending to file: {path}/000017.sst: {text}")

    monkeypatch.setattr("stream.store.opening.Rdict", full)
    with pytest.raises(StoreError, match=r"since its disk is full: .*make room and start again: nothing") as refused:
        open_store(path)
    assert "delete" not in str(refused.value)


@pytest.mark.parametrize("prefix", [b"a", b"a\xff", b"b"])
def test_a_scan_back_is_a_scan_from_its_end(tmp_path: Path, prefix: bytes) -> None:
    """Whatever lies behind the prefix, or is the first key of the next."""
    store = open_store(tmp_path)
    keys = [b"`", b"a", b"a1", b"a\xff", b"a\xff\xff", b"b", b"b1"]
    store.write([(key, b"") for key in keys])
    assert [key for key, _ in store.scan_back(prefix)] == [key for key in keys[::-1] if key.startswith(prefix)]
    store.close()


def test_a_value_that_is_not_ours_is_a_sentence() -> None:
    """Of values and keys in a store: the key is named, no matter what was decoded."""
    for wrong in (b"\xff", b"", b"\x93\x01", b"\x91" * 2000):
        with pytest.raises(StoreError, match="has 6d as a key, which, or whose value, cannot be read"):
            layout.unpack(layout.METAS, layout.META_KEY, wrong)
    for parse in (layout.parse_waiting, layout.number_of):
        with pytest.raises(StoreError, match="has 7701 as a key"):
            parse(b"w\x01")  # type: ignore[operator]
    with pytest.raises(StoreError, match="9 is not a valid SourceTopic"):
        layout.parse_waiting(layout.waiting_key(1, 2, 9, 3))


def test_what_a_secondary_logs_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each catch_up adds a line to RocksDB's own log, which is rotated; its last two files are kept."""
    monkeypatch.setattr("stream.store.opening._LOG_BYTES", 16_384)
    store = open_store(tmp_path / "store")
    secondary = open_secondary(tmp_path / "store", tmp_path / "scratch")
    for _ in range(1000):
        store.write([(b"x", b"")])
        secondary.catch_up()
    logs = [file.stat().st_size for file in (tmp_path / "scratch").glob("LOG*")]
    assert len(logs) == 2
    assert sum(logs) < 2 * 17_000
    secondary.close()
    store.close()


def test_a_secondary_sees_each_write_and_reads_nothing_between_two(tmp_path: Path) -> None:
    """Small and large batches, and a log that ends in the middle; a question without news costs no reading."""
    path, scratch = tmp_path / "p0", tmp_path / "scratch"

    def read() -> int:
        return sum(file.stat().st_size for file in scratch.glob("LOG*"))  # each reading adds a line

    with closing(open_store(path)) as store, closing(open_secondary(path, scratch)) as secondary:
        for number in range(200):
            value = str(number).encode() * (40_000 if number % 50 == 7 else 1)
            store.write([(b"x", value), (b"y", None)])
            if number % 60 == 13:
                store.purge([b"x"])
            secondary.catch_up()
            assert secondary.get(b"x") == value
            before = read()
            secondary.catch_up()
            assert read() == before


def test_a_scan_back_does_not_go_through_what_was_deleted_below(tmp_path: Path) -> None:
    """Twenty empty scans cost less than one way through the deleted keys: a query must not pay for events long past."""
    with closing(open_store(tmp_path)) as store:
        keys = [b"w%08d" % number for number in range(50_000)]
        store.write([(b"a", b""), (b"w99999999", b"kept")])
        for change in (b"", None):
            store.write([(key, change) for key in keys])
        start_s = time.perf_counter()
        assert [key for key, _ in store.scan(b"w")] == [b"w99999999"]
        through_s = time.perf_counter() - start_s
        start_s = time.perf_counter()
        for _ in range(20):
            assert list(store.scan_back(b"w8")) == []
            assert [key for key, _ in store.scan_back(b"w9999")] == [b"w99999999"]
        assert time.perf_counter() - start_s < through_s
