"""Decayed counts of ordered pairs of items, sparse: for each row the columns it was counted with, and how often.

n = pairs in their order. A row's columns lie side by side, ascending, in a stretch of two flat arrays. A stretch that
is full moves to their end, to one twice as large; what stretches have left behind is not used again, and at most twice
what they take. A row holds at most LIMIT columns: a full row drops those that have the smallest counts (of equal ones
the older items) down to half of LIMIT, so that memory and the time to read a row are bounded, whatever the vocabulary.
Frequent and recent pairs stay; a pair that comes back after it was dropped starts from 0.

The counts depend on the pairs in their order, and not on how they were split into calls. The loops are compiled
(numba), and may not reorder sums.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import have_room
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
    >>> moved = pairs.add(np.array([0, 0, 1]), np.array([2, 2, 0]), np.array([0, 10, 10]))
    >>> [part.tolist() for part in pairs.entries(np.array([1, -1, 0]))]
    [[0, 2], [0, 2], [2.0, 3.0]]
    """

    def __init__(self, half_life_ms: int, limit: int = LIMIT) -> None:
        self.clock = DecayClock(half_life_ms)
        self.limit = limit
        self._len = self.used = 0  # rows, and places of the flat arrays that stretches take
        self._starts, self._lengths, self.rooms = (np.empty(0, np.int64) for _ in range(3))
        self._columns, self._sums = np.empty(0, np.int32), np.empty(0, np.float64)

    @property
    def columns(self) -> PairColumns:
        """All counts, as views: read them, do not keep them."""
        return PairColumns(self._starts, self._lengths, self._columns, self._sums)

    def grow(self, rows: int) -> None:
        """Have at least `rows` rows; new ones are empty."""
        have_room(vars(self), rows, "_starts", "_lengths", "rooms")
        self._len = max(self._len, rows)

    def add(self, rows_n: NDArray[np.int64], columns_n: NDArray[np.int64], ts_ms_n: NDArray[np.int64]) -> int:
        """Count pairs at their times; return what `advance` does."""
        if not len(rows_n):
            return 0
        self.grow(1 + int(max(rows_n.max(), columns_n.max())))
        step = self.advance(int(ts_ms_n.max()))
        weight_n, done = self.clock.weights(ts_ms_n), 0
        while True:
            done, self.used = add_pairs(
                rows_n, columns_n, weight_n, done, *self.columns, self.rooms, self.used, self.limit
            )
            if done == len(rows_n):
                return step
            self.make_room()

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Drop all pairs of items that have died. Cost O(all pairs)."""
        dead_V = np.zeros(self._len, np.bool_)
        dead_V[rows] = True
        _forget(dead_V, *self.columns)

    def advance(self, newest_ms: int) -> int:
        """Move the clock's origin, if it has to; return the exponent of two by which the counts were scaled."""
        if step := self.clock.advance(newest_ms):
            sums = self._sums[: self.used]
            np.ldexp(sums, step, out=sums)
        return step

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

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        lengths = self._lengths[: self._len]
        _, at_n = ranges(self._starts[: self._len], lengths)
        clock = np.array([self.clock.origin, self.clock.half_life_ms, self.limit], np.int64)
        return {"lengths": lengths, "columns": self._columns[at_n], "sums": self._sums[at_n], "clock": clock}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "PairCounts":
        """Return the counts of a state."""
        origin, half_life_ms, limit = state["clock"].tolist()
        new = cls(half_life_ms, limit)
        new.clock.origin = origin
        new._lengths = np.array(state["lengths"], np.int64)
        new.rooms, new._starts = new._lengths.copy(), np.cumsum(new._lengths) - new._lengths
        new._columns, new._sums = np.array(state["columns"], np.int32), np.array(state["sums"], np.float64)
        new._len, new.used = len(new._lengths), len(new._columns)
        return new

    def make_room(self, free: int = 0) -> None:
        """Have at least so many places that no stretch has taken, and enough for one more stretch."""
        have_room(vars(self), self.used + max(free, self.limit), "_columns", "_sums")


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
def add_pairs(
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
        if length >= limit:
            length = _drop(columns, sums, first, length, limit // 2)
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
def _drop(columns: Array, sums: Array, first: int, length: int, kept: int) -> int:
    """Keep so many of the largest counts of a row in place, and return their number."""
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
def _forget(dead_V: Array, starts: Array, lengths: Array, columns: Array, sums: Array) -> None:
    for i in range(len(dead_V)):
        at = starts[i]
        for k in range(starts[i], starts[i] + lengths[i]):
            if not (dead_V[i] or dead_V[columns[k]]):
                columns[at], sums[at] = columns[k], sums[k]
                at += 1
        lengths[i] = at - starts[i]
