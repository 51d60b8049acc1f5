"""The k best of many items for one query: exact, block by block, hardly slower than reading the vectors once.

V items, D width; a block has r = ROWS items, and its scores stay in a core's cache. Only scores above the worst of the
best k so far are kept. They are few: about k ln(V / r) of all V, unless the items are in order of their scores. They
are pruned to k whenever there are PRUNE_AT times as many; nothing of length V is allocated.
"""

from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.jit import compiled

ROWS: Final = 1 << 16  # 256 KiB of scores
PRUNE_AT: Final = 3


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
        better = np.flatnonzero(scores_r > self.worst)
        if not better.size:
            return
        self.scores = np.concatenate((self.scores, scores_r[better]))
        self.at = np.concatenate((self.at, better + start))
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


def best(
    items_VD: Tensor, query_D: Tensor, k: int, excluded: NDArray[np.int64], extra: Extra | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k best scores and the rows of their items, best first, ties by row; fewer if there are fewer.

    Args:
        items_VD: Vectors of all items, float32 on the CPU.
        query_D: Vector of the query, float32.
        k: Number of items wanted, 1 or more.
        excluded: Sorted rows of items to skip.
        extra: What is added to the products of items and query; None: nothing.
    """
    items, query = items_VD.numpy(), query_D.numpy()
    found, room = _Best(k), np.empty(min(ROWS, len(items)), np.float32)
    starts = range(0, len(items), ROWS)
    bounds = np.searchsorted(excluded, [*starts, len(items)]).tolist()
    for block, start in enumerate(starts):
        items_rD = items[start : start + ROWS]
        scores_r = room[: len(items_rD)]
        _multiply(scores_r, items_rD, query)
        if extra:
            scores_r += extra.everywhere[start : start + ROWS]
            more = slice(*np.searchsorted(extra.at, (start, start + ROWS)))
            scores_r[extra.at[more] - start] += extra.more[more]
        scores_r[excluded[bounds[block] : bounds[block + 1]] - start] = -np.inf
        found.take(scores_r, start)
    found.prune()
    order = np.argsort(-found.scores, kind="stable")
    return found.scores[order], found.at[order]
