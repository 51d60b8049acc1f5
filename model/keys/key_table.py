"""An open-addressing hash table from 64-bit keys to rows: whole keys are compared, so no two keys share a row.

n = keys of one call. A slot is a key and its row side by side, so that a look-up reads one cache line. Slots are probed
one after the other from the top bits of key * 2^64 / golden ratio; a removal moves later keys of its run back
(backward shift), so no tombstone is left. The key NO_KEY marks an empty slot and is never in the table.

The table doubles when three fifths of it are used. No call waits for that: from two fifths on, each clears a part of
the next, larger slots, and after the change moves a part of the old ones; a key is looked for in both until all are
moved. So a call costs a constant for each of its keys. The loops are compiled (numba).
"""

from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays import prefetch as ahead
from model.arrays.jit import compiled
from model.arrays.prefetch import prefetch
from stream.example import NO_KEY

AHEAD: Final = 32  # keys whose slots are asked for before the first of them is read
FIRST: Final = 1 << 10  # slots of a new table
DRAIN: Final = 16  # slots cleared or moved for each key that is added; 10 would do
_LEAST_DRAIN: Final = 1 << 10  # slots cleared or moved in each call
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_ONE: Final = np.uint64(1)
_HALF: Final = np.uint64(32)
_EMPTY: Final = np.uint64(NO_KEY)
_GONE: Final = np.uint64(2**64 - 1)  # in place of the row of a removed key among the old slots

Array = NDArray[Any]
_prefetching: Final = partial(compiled, calls=(ahead.__file__,))


class KeyTable:
    """Rows by key.

    Args:
        slots: Slots at first, a power of two, at least 4.

    >>> table = KeyTable()
    >>> rows, used = table.add(np.array([7, 9, 7], np.uint64), np.array([0, 1, 2]))
    >>> rows.tolist(), used, table.rows(np.array([9, 8], np.uint64)).tolist()
    ([0, 1, 0], 2, [1, -1])
    >>> table.remove(np.array([7], np.uint64))
    >>> table.rows(np.array([7, 9], np.uint64)).tolist(), len(table)
    ([-1, 1], 1)
    """

    def __init__(self, slots: int = FIRST) -> None:
        self._len = 0
        self._slots = np.zeros((slots, 2), np.uint64)  # key and row
        self._old = np.zeros((0, 2), np.uint64)
        self._drained = 0  # old slots that have been moved, from the first on
        self._next = np.empty((0, 2), np.uint64)
        self._cleared = 0  # next slots that are empty, from the first on

    def __len__(self) -> int:
        return self._len

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, the old ones included."""
        return self._slots.nbytes + self._old.nbytes + self._next.nbytes

    def rows(self, keys_n: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each key, -1 where it is not in the table, [n]."""
        row_n = np.empty(len(keys_n), np.int64)
        _look_up(self._slots, self._old, _unsigned(keys_n), row_n)
        return row_n

    def add(self, keys_n: NDArray[np.uint64], free_f: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Put each new key into the next free row, in order; return the row of each key, [n], and how many are new.

        A new key that finds no row left is not added, and its row is -1.
        """
        keys_n, row_n = _unsigned(keys_n), np.full(len(keys_n), -1)
        done = used = 0
        while True:
            room = 3 * len(self._slots) // 5 - self._len
            done, now = _add(self._slots, self._old, keys_n, free_f, row_n, done, used, used + room)
            self._len, used = self._len + now - used, now
            if done == len(keys_n):
                break
            self._double()
        self._work(DRAIN * len(keys_n) + _LEAST_DRAIN)
        return row_n, used

    def _work(self, slots: int) -> None:
        """Move so many of the old slots into the new ones, and clear so many of the next ones."""
        if len(self._old):
            stop = min(len(self._old), self._drained + slots)
            _move(self._old[self._drained : stop], self._slots)
            self._drained = stop
            if stop == len(self._old):
                self._old, self._drained = self._old[:0], 0
        if 5 * self._len >= 2 * len(self._slots):
            if not len(self._next):
                self._next = np.empty((2 * len(self._slots), 2), np.uint64)
            self._next[self._cleared : self._cleared + slots] = _EMPTY
            self._cleared += slots

    def _double(self) -> None:
        """Take the next slots, after finishing what is left to do."""
        self._work(2 * len(self._slots))
        self._old, self._slots, self._next, self._cleared = self._slots, self._next, self._next[:0], 0

    def remove(self, keys_n: NDArray[np.uint64]) -> None:
        """Take keys out; those that are not in the table are passed over."""
        self._len -= _remove(self._slots, self._old, _unsigned(keys_n))


def _unsigned(keys_n: Array) -> NDArray[np.uint64]:
    """Return keys as the loops take them; signed ones would be found where others are.

    Raises:
        TypeError: They are no uint64.
    """
    if keys_n.dtype != np.uint64:
        raise TypeError(f"keys have the type {keys_n.dtype}; give them as uint64")
    return np.ascontiguousarray(keys_n)


@compiled
def _best(slots: Array, key: Any) -> Any:
    """Return the slot in which a key is looked for first."""
    mixed = key * _GOLDEN
    return (mixed ^ (mixed >> _HALF)) & np.uint64(len(slots) - 1)


@compiled
def _find(slots: Array, key: Any) -> Any:
    """Return the slot that holds a key, or the empty one where it would be."""
    at, mask = _best(slots, key), np.uint64(len(slots) - 1)
    while slots[at, 0] != key and slots[at, 0] != _EMPTY:
        at = (at + _ONE) & mask
    return at


@compiled
def _row(slots: Array, old: Array, key: Any) -> Any:
    """Return the row of a key, -1 where there is none."""
    at = _find(slots, key)
    if key == _EMPTY:
        return -1
    if slots[at, 0] == key:
        return np.int64(slots[at, 1])
    if len(old):
        at = _find(old, key)
        if old[at, 0] == key and old[at, 1] != _GONE:
            return np.int64(old[at, 1])
    return -1


@_prefetching
def _look_up(slots: Array, old: Array, keys_n: Array, row_n: Array) -> None:
    """Look keys up, AHEAD at a time."""
    for first in range(0, len(keys_n), AHEAD):
        some = range(first, min(first + AHEAD, len(keys_n)))
        for n in some:
            prefetch(slots, _best(slots, keys_n[n]))
            if len(old):
                prefetch(old, _best(old, keys_n[n]))
        for n in some:
            at = _find(slots, keys_n[n])
            row_n[n] = np.int64(slots[at, 1]) if slots[at, 0] == keys_n[n] else -1
            if (row_n[n] < 0 and len(old)) or keys_n[n] == _EMPTY:
                row_n[n] = _row(slots, old, keys_n[n])


@compiled
def _add(
    slots: Array, old: Array, keys_n: Array, free_f: Array, row_n: Array, done: int, used: int, most: int
) -> tuple[int, int]:
    """Add keys from number `done` on until `most` rows are used; return how many are done and how many rows used."""
    for n in range(done, len(keys_n)):
        row = _row(slots, old, keys_n[n])
        if row < 0 and used < len(free_f):
            if used == most:
                return n, used
            row = free_f[used]
            at = _find(slots, keys_n[n])
            slots[at, 0], slots[at, 1] = keys_n[n], np.uint64(row)
            used += 1
        row_n[n] = row
    return len(keys_n), used


@compiled
def _move(old: Array, slots: Array) -> None:
    for k in range(len(old)):
        if old[k, 0] != _EMPTY and old[k, 1] != _GONE:
            at = _find(slots, old[k, 0])
            slots[at, 0], slots[at, 1] = old[k, 0], old[k, 1]


@compiled
def _remove(slots: Array, old: Array, keys_n: Array) -> int:
    """Take keys out; return how many there were."""
    removed = 0
    for n in range(len(keys_n)):
        key = keys_n[n]
        if _row(slots, old, key) < 0:
            continue
        removed += 1
        at = _find(slots, key)
        if slots[at, 0] == key:
            _close_up(slots, at)
        if len(old):
            at = _find(old, key)
            if old[at, 0] == key:
                old[at, 1] = _GONE
    return removed


@compiled
def _close_up(slots: Array, hole: Any) -> None:
    """Empty a slot, and move later keys of its run back to where they are found without it."""
    at, mask = hole, np.uint64(len(slots) - 1)
    while True:
        at = (at + _ONE) & mask
        if slots[at, 0] == _EMPTY:
            break
        slots[hole, 0], kept, key = _EMPTY, slots[hole, 1], slots[at, 0]
        if _find(slots, key) == hole:
            slots[hole, 0], slots[hole, 1] = key, slots[at, 1]
            hole = at
        else:
            slots[hole, 1] = kept
    slots[hole, 0] = _EMPTY
