"""Reading the keys with a prefix from RocksDB, in their order or back.

RocksDB's iterators just end where they meet a block that is damaged, and so do rocksdict's items(): only their status
says whether that was the end. What rocksdict raises goes up as it is.
"""

from collections.abc import Iterator
from typing import Any

from rocksdict import Rdict, ReadOptions


def forward(db: Rdict, prefix: bytes, start: bytes, most: int | None) -> list[tuple[bytes, bytes]]:
    """Return the keys with a prefix, in order from `start` on, with their values; `most` of them at most."""
    options = _up_to(after(prefix))
    place: Any = db.iter(options)
    try:
        found: list[tuple[bytes, bytes]] = []
        place.seek(start)
        while place.valid():
            found.append((place.key(), place.value()))
            if len(found) == most:
                break
            place.next()
        place.status()
        return found
    finally:
        del place  # the traceback of an error would keep it, and it the files open


def back(db: Rdict, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys with a prefix, from the last to the first, with their values; no more than is asked for."""
    options = _up_to(after(prefix))
    place: Any = db.iter(options)
    try:
        place.seek(prefix)
        first = place.key() if place.valid() else b""
        if first.startswith(prefix):
            place.seek_for_prev(after(prefix))
            while place.valid() and place.key() > first:
                if place.key().startswith(prefix):
                    yield place.key(), place.value()
                place.prev()
            place.status()
            yield first, place.value()  # a step further would lead through all that was deleted below
        place.status()
    finally:
        del place


def after(prefix: bytes) -> bytes:
    """Return the first key after all that start with a prefix."""
    return (int.from_bytes(prefix) + 1).to_bytes(len(prefix))


def _up_to(end: bytes) -> ReadOptions:
    """Return options of an iterator, which has no bound any more once they are gone."""
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    return options
