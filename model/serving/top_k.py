"""The k best of many items for one query: exact, block by block, in less time than reading all vectors once.

V items, D width; a block has r = ROWS items, and its scores stay in a core's cache. Only scores above the worst of the
best k so far are kept. They are few: about k ln(V / r) of all V, unless the items are in order of their scores. They
are pruned to k whenever there are PRUNE_AT times as many; nothing of length V is allocated.

Where there is more than one block, later ones are read as bytes first (`Rounded`), a quarter of the memory. From these
and from how far they are off comes an upper bound of each score, by Cauchy and Schwarz:

    q·v = q·b + q·(v - b) <= q·b + |q| |v - b|            b: the vector that the bytes of v stand for

Only items whose bound is above the worst are multiplied exactly, by the same loop, so that answers have the same bits.
"""

from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.jit import compiled

ROWS: Final = 1 << 16  # 256 KiB of scores
PRUNE_AT: Final = 3
_SLACK: Final = np.float32(1e-4)  # of a vector's length: more than float32 loses in both products of up to 800 numbers
_ROUNDING: Final = np.float32(1e-6)  # of a sum: more than float32 loses in it
_BYTE: Final = 127
_TINY: Final = np.float32(1e-30)  # whose inverse is a float32


class Rounded(NamedTuple):
    """Vectors rounded to bytes."""

    vectors: NDArray[np.int8]  # [V, D]
    scales: NDArray[np.float32]  # [V] by which the bytes are multiplied
    errors: NDArray[np.float32]  # [V] at least the length of what is lost, and _SLACK of the vector's

    def part(self, start: int, stop: int) -> "Rounded":
        """Return some of them."""
        return Rounded(self.vectors[start:stop], self.scales[start:stop], self.errors[start:stop])


def rounded(items_VD: Tensor) -> Rounded | None:
    """Return vectors rounded to bytes; None where they are one block."""
    count, width = items_VD.shape
    if count <= ROWS:
        return None
    found = Rounded(np.empty((count, width), np.int8), np.empty(count, np.float32), np.empty(count, np.float32))
    _round(items_VD.numpy(), *found)
    return found


@partial(compiled, any_order=True)
def _round(
    items_VD: NDArray[np.float32],
    coarse_VD: NDArray[np.int8],
    scales_V: NDArray[np.float32],
    errors_V: NDArray[np.float32],
) -> None:
    for v in range(len(items_VD)):
        largest = squares = lost = np.float32(0)
        for d in range(items_VD.shape[1]):
            largest = max(largest, abs(items_VD[v, d]))
        scale = largest / np.float32(_BYTE)
        steps = np.float32(1) / scale if scale > _TINY else np.float32(0)
        for d in range(items_VD.shape[1]):
            nearest = np.rint(items_VD[v, d] * steps)
            coarse_VD[v, d] = np.int8(nearest)
            off = items_VD[v, d] - nearest * scale
            lost += off * off
            squares += items_VD[v, d] * items_VD[v, d]
        scales_V[v] = scale
        errors_V[v] = np.sqrt(lost) * (1 + _SLACK) + _SLACK * np.sqrt(squares)


@partial(compiled, any_order=True)
def _bound(
    bounds_r: NDArray[np.float32], coarse_rD: NDArray[np.int8], scales_r: NDArray[np.float32],
    errors_r: NDArray[np.float32], query_D: NDArray[np.float32], length: np.float32,
) -> None:  # fmt: skip
    """Compute upper bounds of items·query; `length` is that of the query."""
    for r in range(len(coarse_rD)):
        total = np.float32(0)
        for c in range(len(query_D)):
            total += np.float32(coarse_rD[r, c]) * query_D[c]
        bounds_r[r] = total * scales_r[r] + length * errors_r[r]


@partial(compiled, any_order=True)
def _multiply(scores_r: NDArray[np.float32], items_rD: NDArray[np.float32], query_D: NDArray[np.float32]) -> None:
    """Compute scores = items·query, as fast as items can be read; PyTorch's product is slower."""
    for r in range(len(items_rD)):
        total = np.float32(0)
        for c in range(len(query_D)):
            total += items_rD[r, c] * query_D[c]
        scores_r[r] = total


class _Best:
    """The best k so far and some more candidates, in the order of the items, which decides between equal scores."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.scores, self.at = np.empty(0, np.float32), np.empty(0, np.int64)
        self.worst = -np.inf  # k items score at least this; a later one must score more

    def take(self, scores_r: NDArray[np.float32], start: int) -> None:
        """Take the scores of a block whose first item is number `start`."""
        self.take_some(scores_r, np.arange(start, start + len(scores_r)))

    def take_some(self, scores_n: NDArray[np.float32], at_n: NDArray[np.int64]) -> None:
        """Take the scores of items that come after all others so far, ascending."""
        better = np.flatnonzero(scores_n > self.worst)
        if not better.size:
            return
        self.scores = np.concatenate((self.scores, scores_n[better]))
        self.at = np.concatenate((self.at, at_n[better]))
        if len(self.scores) > PRUNE_AT * self._k:
            self.prune()

    def prune(self) -> None:
        """Drop all but the best k."""
        if len(self.scores) < self._k:
            return
        self.worst = np.partition(self.scores, -self._k)[-self._k]
        above = np.flatnonzero(self.scores > self.worst)
        tied = np.flatnonzero(self.scores == self.worst)[: self._k - len(above)]
        kept = np.sort(np.concatenate((above, tied)))
        self.scores, self.at = self.scores[kept], self.at[kept]


class Extra(NamedTuple):
    """What is added to the products."""

    everywhere: NDArray[np.float32]  # for each item
    at: NDArray[np.int64]  # sorted rows to which more is added
    more: NDArray[np.float32]  # to each of them


class _Search:
    """One query over all items; the arguments are those of `best`."""

    def __init__(
        self,
        items_VD: Tensor,
        query_D: Tensor,
        k: int,
        excluded: NDArray[np.int64],
        extra: Extra | None,
        coarse: Rounded | None,
    ) -> None:
        self._items, self._query, self._k = items_VD.numpy(), query_D.numpy(), k
        self._excluded, self._extra, self._rounded = excluded, extra, coarse
        self._length = np.float32(np.linalg.norm(self._query.astype(np.float64)) * (1 + _ROUNDING))
        self._room = np.empty(min(ROWS, len(self._items)), np.float32)
        self.found = _Best(k)

    def run(self) -> None:
        """Look at all blocks."""
        for start in range(0, len(self._items), ROWS):
            stop = min(start + ROWS, len(self._items))
            shut = self._excluded[slice(*np.searchsorted(self._excluded, (start, stop)))] - start
            if self._rounded is None or self.found.worst == -np.inf or not self._look(self._rounded, start, stop, shut):
                self._multiply(start, stop, shut)
        self.found.prune()

    def _multiply(self, start: int, stop: int, shut: NDArray[np.int64]) -> None:
        """Take all of a block."""
        scores_r = self._room[: stop - start]
        _multiply(scores_r, self._items[start:stop], self._query)
        if self._extra:
            self._add(self._extra, scores_r, start, stop)
        scores_r[shut] = -np.inf
        self.found.take(scores_r, start)
        if self._rounded is not None:
            self.found.prune()  # so that the next block has a worst

    def _add(self, extra: Extra, scores_r: NDArray[np.float32], start: int, stop: int) -> None:
        scores_r += extra.everywhere[start:stop]
        more = slice(*np.searchsorted(extra.at, (start, stop)))
        scores_r[extra.at[more] - start] += extra.more[more]

    def _look(self, coarse: Rounded, start: int, stop: int, shut: NDArray[np.int64]) -> bool:
        """Take those of a block that may be among the best; return False, and take none, where they are many."""
        bounds_r = self._room[: stop - start]
        _bound(bounds_r, *coarse.part(start, stop), self._query, self._length)
        if self._extra:
            bounds_r += self._extra.everywhere[start:stop]
            bounds_r += _ROUNDING * np.abs(bounds_r)
            more = slice(*np.searchsorted(self._extra.at, (start, stop)))
            at = self._extra.at[more] - start
            bounds_r[at] += self._extra.more[more]
            bounds_r[at] += _ROUNDING * np.abs(bounds_r[at])
        bounds_r[shut] = -np.inf
        at_n = np.flatnonzero(bounds_r > self.found.worst)
        if 4 * len(at_n) > len(bounds_r):
            return False
        scores_n = np.empty(len(at_n), np.float32)
        _multiply(scores_n, self._items[start + at_n], self._query)
        if self._extra:
            scores_n += self._extra.everywhere[start + at_n]
            place_n = np.searchsorted(at, at_n)
            has_n = place_n < len(at)
            has_n[has_n] = at[place_n[has_n]] == at_n[has_n]
            scores_n[has_n] += self._extra.more[more][place_n[has_n]]
        self.found.take_some(scores_n, start + at_n)
        return True


def best(
    items_VD: Tensor,
    query_D: Tensor,
    k: int,
    excluded: NDArray[np.int64],
    extra: Extra | None = None,
    coarse: Rounded | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k best scores and the rows of their items, best first, ties by row; fewer if there are fewer.

    Args:
        items_VD: Vectors of all items, float32 on the CPU.
        query_D: Vector of the query, float32.
        k: Number of items wanted, 1 or more.
        excluded: Sorted rows of items to skip.
        extra: What is added to the products of items and query; None: nothing.
        coarse: What `rounded` has returned for the items; None: all are multiplied.
    """
    search = _Search(items_VD, query_D, k, excluded, extra, coarse)
    search.run()
    order = np.argsort(-search.found.scores, kind="stable")
    return search.found.scores[order], search.found.at[order]
