"""Tables whose bits have changed on disk: what is read of their store is whole, or the store is called damaged."""

import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from stream.errors import StoreDamagedError
from stream.store.rocksdb import RocksStore, open_store

PREFIXES = (b"a", b"b", b"w")
CHANGES = 14
_RANDOM = random.Random(1)
PAIRS = [(prefix + b"%05d" % number, _RANDOM.randbytes(100)) for prefix in PREFIXES for number in range(100)]


def _fill(path: Path) -> None:
    """Make a store of two tables, each of several blocks."""
    for part in range(2):
        with closing(open_store(path)) as store:
            store.write(PAIRS[part::2])


def _scan(store: RocksStore) -> list[tuple[bytes, bytes | None]]:
    return [pair for prefix in PREFIXES for pair in store.scan(prefix)]


def _scan_back(store: RocksStore) -> list[tuple[bytes, bytes | None]]:
    return [pair for prefix in PREFIXES[::-1] for pair in store.scan_back(prefix)][::-1]


def _get(store: RocksStore) -> list[tuple[bytes, bytes | None]]:
    return [(key, store.get(key)) for key, _ in PAIRS]


def _whole(store: RocksStore, read: Callable[[RocksStore], list[tuple[bytes, bytes | None]]]) -> bool:
    """Read everything, and return whether it could be read."""
    try:
        assert read(store) == PAIRS, read.__name__
    except StoreDamagedError:
        return False
    return True


def test_no_changed_bit_makes_a_store_seem_smaller(tmp_path: Path) -> None:
    """Wherever it is in a table, every read of every prefix is complete, or StoreDamagedError."""
    whole, path, damaged = tmp_path / "whole", tmp_path / "p0", 0
    _fill(whole)
    tables = [(table.name, table.read_bytes()) for table in whole.glob("*.sst")]
    for change in range(CHANGES):
        name, data = tables[change % len(tables)]
        changed = bytearray(data)
        changed[len(data) * change // CHANGES] ^= 1 << change % 8
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(whole, path)
        (path / name).write_bytes(changed)
        try:
            with closing(open_store(path)) as store:
                damaged += sum(_whole(store, read) for read in (_scan, _scan_back, _get)) < 3
        except StoreDamagedError:
            damaged += 1
    assert damaged > CHANGES / 2
