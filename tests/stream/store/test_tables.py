"""The manifest that names a store's tables: a changed length in it would let some of them be deleted."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from stream.errors import StoreDamagedError
from stream.store.rocksdb import open_secondary, open_store

HEAD = 7


def _killed(path: Path) -> tuple[list[list[bytes]], Path]:
    """Return the keys after each write to a store, and the store as `kill -9` leaves it: in tables and in a log."""
    history: list[list[bytes]] = []
    with closing(open_store(path / "p0")) as store:
        for number in range(6):
            store.write([(b"k%d" % number, b"v" * 99)])
            history.append([key for key, _ in store.scan(b"k")])
            if number in (1, 3):
                store.checkpoint(path / "flushed")
        shutil.copytree(path / "p0", path / "killed")
    return history, path / "killed"


def test_no_changed_length_in_the_manifest_loses_a_table(tmp_path: Path) -> None:
    """RocksDB would go on without the tables named after it, and with the log of what came later."""
    _, killed = _killed(tmp_path)
    (manifest,) = killed.glob("MANIFEST*")
    data, place, path = manifest.read_bytes(), 0, tmp_path / "copy" / "p0"
    while place < len(data):
        for byte in (4, 5):
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(killed, path)
            changed = bytearray(data)
            changed[place + byte] ^= 0x80
            (path / manifest.name).write_bytes(changed)
            with pytest.raises(StoreDamagedError, match="p0 is damaged: "):
                open_secondary(path, tmp_path / "scratch")
            with pytest.raises(StoreDamagedError, match="p0 is damaged: "):
                open_store(path)
        place += HEAD + int.from_bytes(data[place + 4 : place + 6], "little")
    assert place == len(data)


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_write_to_the_manifest_that_a_crash_cut_off_is_no_damage(tmp_path: Path, cut: int) -> None:
    """What it would have said is in the log still."""
    history, killed = _killed(tmp_path)
    (manifest,) = killed.glob("MANIFEST*")
    manifest.write_bytes(manifest.read_bytes()[:-cut])
    with closing(open_store(killed)) as store:
        assert [key for key, _ in store.scan(b"k")] == history[-1]


def test_rubbish_after_the_manifest_is_damage(tmp_path: Path) -> None:
    """RocksDB would hang, and with it all of the process."""
    _, killed = _killed(tmp_path)
    (manifest,) = killed.glob("MANIFEST*")
    manifest.write_bytes(manifest.read_bytes() + b"\x11\x22\x33\x44\x81\xaa\x06" + b"rubbish" * 14)
    for opened in (open_store, lambda path: open_secondary(path, tmp_path / "scratch")):
        with pytest.raises(StoreDamagedError, match="has a record of type 6 at byte"):
            opened(killed)
