"""Who is admitted: an id gets a row at its k-th occurrence. Counts of ids without a row, in bounded memory.

n = occurrences in their order. Up to EXACT ids are counted exactly. When there are more, all counts move at once into a
count-min sketch (Cormode and Muthukrishnan, 2005) of DEPTH rows of WIDTH bytes, and stay there. All its counts are
halved after every WIDTH / 16 occurrences, so of what came since it holds WIDTH / 8 at most. An id is never counted too
seldom but for that; too often, by one or more, with a probability of at most (1/8)^DEPTH = 0.02 %: what other ids add
to its byte of a row is 1/8 on average (Markov's bound). Only its least bytes rise (conservative updates), so in
practice less.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.jit import compiled

EXACT: Final = 1 << 18  # ids
DEPTH: Final = 4
WIDTH: Final = 1 << 22  # bytes of a row; a power of two
AGING: Final = 16  # a sketch is halved after WIDTH / AGING occurrences
MOST: Final = 255  # what a byte can count

Array = NDArray[Any]


class Admission:
    """Counts of ids that have no row.

    Args:
        after: The occurrence at which an id is admitted, 1 to MOST.
        exact: Ids that are counted exactly.
        width: Bytes of a row of the sketch.

    >>> doorkeeper = Admission(2)
    >>> doorkeeper.count(np.array([7, 8, 7], np.uint64)).tolist()
    [True, False, True]
    """

    def __init__(self, after: int, exact: int = EXACT, width: int = WIDTH) -> None:
        self._after, self._exact, self._width = after, exact, width
        self._counts: dict[int, int] = {}
        self._sketch = np.empty((0, width), np.uint8)  # [DEPTH, width] once it is needed
        self._since = 0  # occurrences since the sketch was halved

    def count(self, keys_n: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Count occurrences, and return by which of them ids are admitted, [n]."""
        if not len(self._sketch):
            for n, key in enumerate(keys_n.tolist()):
                self._counts[key] = self._counts.get(key, 0) + 1
                if len(self._counts) > self._exact:
                    return np.concatenate((self._reached(keys_n[: n + 1]), self._pour(keys_n[n + 1 :])))
            return self._reached(keys_n)
        return self._sketched(keys_n)

    def _reached(self, keys_n: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which ids have occurred often enough by the end of a call, [n]."""
        return np.array([self._counts[key] >= self._after for key in keys_n.tolist()], np.bool_)

    def _pour(self, keys_n: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Move all counts into a sketch, then count occurrences there."""
        self._sketch = np.zeros((DEPTH, self._width), np.uint8)
        _count(self._sketch, np.repeat(*self._exact_counts()))
        self._counts.clear()
        return self._sketched(keys_n)

    def _sketched(self, keys_n: NDArray[np.uint64]) -> NDArray[np.bool_]:
        count_n = _count(self._sketch, np.ascontiguousarray(keys_n))
        self._since += len(keys_n)
        if self._since >= self._width // AGING:
            self._sketch >>= 1
            self._since = 0
        admitted_n: NDArray[np.bool_] = count_n >= self._after
        return admitted_n

    def forget(self, keys: Iterable[int]) -> None:
        """Count ids that were admitted from 0 again, where they are counted exactly."""
        for key in keys:
            self._counts.pop(key, None)

    def _exact_counts(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        return np.array(list(self._counts), np.uint64), np.array(list(self._counts.values()), np.int64)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        keys, counts = self._exact_counts()
        return {
            "keys": keys,
            "counts": counts,
            "sketch": self._sketch,
            "since": np.array(self._since, np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds."""
        self._counts = dict(zip(state["keys"].tolist(), state["counts"].tolist(), strict=True))
        self._sketch, self._since = np.array(state["sketch"]), int(state["since"])


@compiled
def _count(sketch: Array, keys_n: Array) -> Array:
    """Count occurrences in a sketch; return the count of each after it, [n]."""
    mask, count_n = np.uint64(sketch.shape[1] - 1), np.empty(len(keys_n), np.int64)
    at = np.empty(sketch.shape[0], np.uint64)
    for n in range(len(keys_n)):
        mixed = keys_n[n]
        least: Any = MOST
        for row in range(sketch.shape[0]):
            mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
            at[row] = (mixed >> np.uint64(32)) & mask
            least = min(least, np.int64(sketch[row, at[row]]))
        count_n[n] = min(least + 1, MOST)
        for row in range(sketch.shape[0]):
            if sketch[row, at[row]] == least and least < MOST:
                sketch[row, at[row]] = np.uint8(least + 1)
    return count_n
