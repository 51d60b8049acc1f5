"""Decayed counts of ordered pairs of items, sparse: for each row the columns it was counted with, and how often.

n = pairs in their order. A row's columns lie side by side, ascending, in a stretch of two flat arrays that is moved to
one twice as large when it is full. A row holds at most LIMIT columns: a full row drops the half that has the smallest
counts (of equal ones the older items), so that memory and the time to read a row are bounded, whatever the vocabulary.
Frequent and recent pairs stay; a pair that comes back after it was dropped starts from 0.

The counts depend on the pairs in their order, and not on how they were split into calls. The loops are compiled
(numba), and may not reorder sums.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import with_room
from model.arrays.jit import compiled
from model.arrays.ranges import ranges
from model.counting.decay import DecayClock

LIMIT: Final = 256  # columns of a row
_FIRST: Final = 4  # columns of a row's first stretch

Array = NDArray[Any]


class PairColumns(NamedTuple):
    """The counts as compiled loops read them: row i has columns[k] sums[k] times, k from starts[i] to + lengths[i]."""

    starts: NDArray[np.int64]  # [V and room for more]
    lengths: NDArray[np.int64]
    columns: NDArray[np.int32]
    sums: NDArray[np.float64]  # as of the clock's origin


class PairCounts:
    """The counts.

    >>> pairs = PairCounts(half_life_ms=10)
    >>> pairs.add(np.array([0, 0, 1]), np.array([2, 2, 0]), np.array([0, 10, 10]))
    >>> [part.tolist() for part in pairs.entries(np.array([1, -1, 0]))]
    [[0, 2], [0, 2], [2.0, 3.0]]
    """

    def __init__(self, half_life_ms: int, limit: int = LIMIT) -> None:
        self.clock = DecayClock(half_life_ms)
        self._limit = limit
        self._len = self._used = 0
        self._starts, self._lengths, self._rooms = (np.empty(0, np.int64) for _ in range(3))
        self._columns, self._sums = np.empty(0, np.int32), np.empty(0, np.float64)

    @property
    def columns(self) -> PairColumns:
        """All counts, as views: read them, do not keep them."""
        return PairColumns(self._starts, self._lengths, self._columns, self._sums)

    def grow(self, rows: int) -> None:
        """Have at least `rows` rows; new ones are empty."""
        self._starts, self._lengths, self._rooms = (
            with_room(array, rows) for array in (self._starts, self._lengths, self._rooms)
        )
        self._len = max(self._len, rows)

    def add(self, rows_n: NDArray[np.int64], columns_n: NDArray[np.int64], ts_ms_n: NDArray[np.int64]) -> None:
        """Count pairs at their times."""
        if not len(rows_n):
            return
        self.grow(1 + int(max(rows_n.max(), columns_n.max())))
        if step := self.clock.advance(int(ts_ms_n.max())):
            self._sums = np.ldexp(self._sums, step)
        weight_n, done = self.clock.weights(ts_ms_n), 0
        while True:
            done, self._used = _add(
                rows_n, columns_n, weight_n, done, *self.columns, self._rooms, self._used, self._limit
            )
            if done == len(rows_n):
                return
            self._make_room()

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Whether each row has a count, [V and more]."""
        return self._lengths > 0

    def entries(self, rows_T: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return all counts of some rows, as of the clock's origin: index into rows_T, column, count, [n] each.

        Row -1 has none.
        """
        known = np.flatnonzero(rows_T >= 0)
        owner_n, at_n = ranges(self._starts[rows_T[known]], self._lengths[rows_T[known]])
        return known[owner_n], self._columns[at_n].astype(np.int64), self._sums[at_n]

    def _make_room(self) -> None:
        """Move all stretches into larger arrays, side by side, which are at least half free."""
        needed = int(self._rooms.sum())
        columns, sums = np.zeros(2 * needed + 4 * self._limit, np.int32), np.zeros(2 * needed + 4 * self._limit)
        starts = np.cumsum(self._rooms) - self._rooms
        _move(*self.columns, starts, columns, sums)
        self._starts, self._columns, self._sums, self._used = starts, columns, sums, needed


@compiled
def _find(columns: Array, first: int, stop: int, wanted: int) -> int:
    """Return the first index from `first` on whose column is not below the wanted one; `stop` if there is none."""
    while first < stop:
        middle = (first + stop) >> 1
        if columns[middle] < wanted:
            first = middle + 1
        else:
            stop = middle
    return first


@compiled
def _add(
    rows_n: Array, columns_n: Array, weight_n: Array, done: int,
    starts: Array, lengths: Array, columns: Array, sums: Array, rooms: Array, used: int, limit: int,
) -> tuple[int, int]:  # fmt: skip
    """Count pairs from number `done` on, until the arrays are full; return how many are done and how much is used."""
    for n in range(done, len(rows_n)):
        i, j = rows_n[n], columns_n[n]
        first, length = starts[i], lengths[i]
        at = _find(columns, first, first + length, j)
        if at < first + length and columns[at] == j:
            sums[at] += weight_n[n]
            continue
        if length == limit:
            length = _drop(columns, sums, first, length)
            at = _find(columns, first, first + length, j)
        elif length == rooms[i]:
            room = min(limit, max(_FIRST, 2 * length))
            if used + room > len(columns):
                return n, used
            columns[used : used + length] = columns[first : first + length]
            sums[used : used + length] = sums[first : first + length]
            at += used - first
            first, starts[i], rooms[i] = used, used, room
            used += room
        for k in range(first + length, at, -1):
            columns[k], sums[k] = columns[k - 1], sums[k - 1]
        columns[at], sums[at] = j, weight_n[n]
        lengths[i] = length + 1
    return len(rows_n), used


@compiled
def _drop(columns: Array, sums: Array, first: int, length: int) -> int:
    """Keep the larger half of a row in place, and return how many columns these are."""
    kept = length // 2
    least = np.partition(sums[first : first + length], length - kept)[length - kept]  # the smallest that may stay
    above = equal = 0
    for k in range(first, first + length):
        above += sums[k] > least
        equal += sums[k] == least
    surplus = equal - (kept - above)  # of those equal to it, the first are dropped: their items are older
    at = first
    for k in range(first, first + length):
        if sums[k] == least and surplus > 0:
            surplus -= 1
        elif sums[k] >= least:
            columns[at], sums[at] = columns[k], sums[k]
            at += 1
    return kept


@compiled
def _move(
    starts: Array, lengths: Array, columns: Array, sums: Array, to: Array, to_columns: Array, to_sums: Array
) -> None:
    for i in range(len(starts)):
        for k in range(lengths[i]):
            to_columns[to[i] + k], to_sums[to[i] + k] = columns[starts[i] + k], sums[starts[i] + k]
