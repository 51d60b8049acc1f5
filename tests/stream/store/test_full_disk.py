"""A store on a disk without room, which is a small file system of its own."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stream.errors import StoreError
from stream.store import rocksdb
from stream.store.rocksdb import open_store


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_checkpoint_does_not_wait_for_what_is_not_written(disk: Path) -> None:
    """A worker that is to end waits for it."""
    store, began_s = open_store(disk / "p0"), time.monotonic()
    try:
        store.write([(b"key", os.urandom(1 << 18))])
        fill(disk)
        with pytest.raises(StoreError, match="No space left on device"):
            store.checkpoint(disk / ".p0.backup")
    finally:
        with suppress(StoreError):  # the same
            store.close()
        assert time.monotonic() - began_s < rocksdb._FLUSH_S
        (disk / "filler").unlink()
