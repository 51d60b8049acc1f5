"""The best of many items for one query: exact, block by block, at little more than the price of reading the vectors.

V items, D width, k wanted; a block has r = ROWS items, and its scores stay in a core's cache. Only scores above the
worst of the best k known are held, and they are few: for items in any order that does not follow the scores, about
k ln(V / r) of all V. They are cut back to k whenever there are CUT times as many; nothing of length V is made.
"""

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.jit import compiled

ROWS: Final = 1 << 16  # 256 KiB of scores
CUT: Final = 3


@partial(compiled, any_order=True)
def _multiply(scores_r: NDArray[np.float32], items_rD: NDArray[np.float32], query_D: NDArray[np.float32]) -> None:
    """Let each score be item·query: as fast as items can be read, which PyTorch's product is not."""
    for r in range(len(items_rD)):
        total = np.float32(0)
        for c in range(len(query_D)):
            total += items_rD[r, c] * query_D[c]
        scores_r[r] = total


class _Best:
    """The best k so far, and some that may be: in the order of the items, so that equal scores are told by it."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.scores, self.at = np.empty(0, np.float32), np.empty(0, np.int64)
        self.worst = -np.inf  # k items score at least this; an equal one that comes later is not among the best

    def take(self, scores_r: NDArray[np.float32], start: int) -> None:
        """See a block whose first item is number `start`."""
        found = np.flatnonzero(scores_r > self.worst)
        if not found.size:
            return
        self.scores = np.concatenate((self.scores, scores_r[found]))
        self.at = np.concatenate((self.at, found + start))
        if len(self.scores) > CUT * self._k:
            self.cut()

    def cut(self) -> None:
        """Let go of all but the best k."""
        if len(self.scores) < self._k:
            return
        self.worst = np.partition(self.scores, -self._k)[-self._k]
        above = np.flatnonzero(self.scores > self.worst)
        level = np.flatnonzero(self.scores == self.worst)[: self._k - len(above)]
        kept = np.sort(np.concatenate((above, level)))
        self.scores, self.at = self.scores[kept], self.at[kept]


def best(
    items_VD: Tensor, query_D: Tensor, k: int, shut: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give the best scores and where they stand, best first, equal ones in the order of the items; fewer than k if so.

    Args:
        items_VD: float32 vectors of all items, on the CPU.
        query_D: float32, what they are multiplied by.
        k: items wanted at most, 1 or more.
        shut: ascending places of items that must not be found.
    """
    items, query = items_VD.numpy(), query_D.numpy()
    held, room = _Best(k), np.empty(min(ROWS, len(items)), np.float32)
    starts = range(0, len(items), ROWS)
    bounds = np.searchsorted(shut, [*starts, len(items)]).tolist()
    for block, start in enumerate(starts):
        items_rD = items[start : start + ROWS]
        scores_r = room[: len(items_rD)]
        _multiply(scores_r, items_rD, query)
        scores_r[shut[bounds[block] : bounds[block + 1]] - start] = -np.inf
        held.take(scores_r, start)
    held.cut()
    order = np.argsort(-held.scores, kind="stable")
    return held.scores[order], held.at[order]
