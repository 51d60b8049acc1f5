"""Popularity that fades: every occurrence of an item counts 1 at its own time and halves each half-life of event time.

V = rows of the item vocabulary, n = occurrences. The count of an item at time t is the sum of 2^((ts - t) / half-life)
over its occurrences. Kept are the sums as of one origin, which fading leaves alone, so that an occurrence costs O(1);
when the newest time is 512 half-lives past the origin, the origin moves up and all sums are scaled by a power of two,
which loses no bit (only what has faded below 2^-1022 is rounded, to 0 in the end). So the counts depend on the
occurrences in their order, and not on how they were cut into calls.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.capacity import with_room
from model.questions import Questions

_FAR: Final = 512  # half-lives; float64 reaches 1023
_FEW: Final = 64  # numbers: comparing everything with each costs less than sorting, up to about 80


class Popularity:
    """Faded counts of occurrences by item row, and the ranking by them.

    >>> seen = Popularity(half_life_ms=10)
    >>> seen.add(np.array([0, 1, 1]), np.array([0, 0, 10]))
    >>> seen.scores(at_ms=10).tolist()
    [0.5, 1.5]
    """

    def __init__(self, half_life_ms: int) -> None:
        self.half_life_ms = half_life_ms
        self._origin = 0  # in half-lives
        self._len = 0
        self._sums = np.empty(0, np.float64)  # [V and room for more] as of the origin

    def __len__(self) -> int:
        return self._len

    def grow(self, rows: int) -> None:
        """Know so many rows, unless there are more already; new ones count 0."""
        self._sums = with_room(self._sums, rows)
        self._len = max(self._len, rows)

    def ranks(self, questions: Questions) -> NDArray[np.float64]:
        """Give the target's rank by what was learnt so far, inf for a miss, [T]; fading does not change the order.

        All questions share the scores: the candidates of all of them are counted together, the others one by one.
        """
        self.grow(len(questions.born_ms))
        if not questions.possible.any():
            return np.full(len(questions), np.inf)
        sums_V = self._sums[: len(questions.born_ms)]
        own_T, request_ms_T1 = sums_V[questions.targets], questions.request_ms[:, None]
        old_V = questions.born_ms < request_ms_T1.min()
        above_T, level_T = _compare(sums_V[questions.live & old_V], own_T)  # the target itself among the level ones
        young = np.flatnonzero(questions.live & ~old_V & (questions.born_ms < request_ms_T1.max()))
        candidate_Ty = questions.born_ms[young] < request_ms_T1
        above_T += (candidate_Ty & (sums_V[young] > own_T[:, None])).sum(1)
        level_T += (candidate_Ty & (sums_V[young] == own_T[:, None])).sum(1)
        return np.where(questions.possible, 1 + above_T + (level_T - 1) / 2, np.inf)

    def learn(self, questions: Questions) -> None:
        """Count the targets, which the vocabulary has admitted by now, at their requests."""
        self.add(questions.targets, questions.request_ms)

    def add(self, rows_n: NDArray[np.int64], ts_ms_n: NDArray[np.int64]) -> None:
        """Count occurrences of items.

        Raises:
            ValueError: a row is negative, as of an item that the vocabulary has not admitted.
        """
        if not len(rows_n):
            return
        if rows_n.min() < 0:
            raise ValueError(f"Popularity.add: row {rows_n.min()} is no row; admit the items before they are counted.")
        self.grow(int(rows_n.max()) + 1)
        whole_n, rest_n = np.divmod(ts_ms_n, self.half_life_ms)
        self._move_origin(int(whole_n.max()))
        np.add.at(self._sums, rows_n, np.ldexp(np.exp2(rest_n / self.half_life_ms), whole_n - self._origin))

    def _move_origin(self, newest: int) -> None:
        if newest - self._origin > _FAR:
            self._sums = np.ldexp(self._sums, self._origin - newest)
            self._origin = newest

    def scores(self, at_ms: int) -> NDArray[np.float64]:
        """Give the faded count of every row at a time, [V]."""
        whole, rest = divmod(at_ms, self.half_life_ms)
        counts: NDArray[np.float64] = np.ldexp(self._sums[: self._len], self._origin - whole)
        counts /= np.exp2(rest / self.half_life_ms)
        return counts

    def state(self) -> dict[str, NDArray[Any]]:
        """Give all that this knows, for a checkpoint; `sums` is a view."""
        clock = np.array([self._origin, self.half_life_ms], np.int64)
        return {"sums": self._sums[: self._len], "clock": clock}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "Popularity":
        """Give the popularity whose state this is, with its half-life."""
        origin, half_life_ms = state["clock"].tolist()
        new = cls(half_life_ms)
        new._sums = np.array(state["sums"], np.float64)
        new._len = len(new._sums)
        new._origin = origin
        return new


def _compare(sums_v: NDArray[np.float64], own_T: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the sums above each of some numbers, and those level with it, [T] each."""
    if len(own_T) <= _FEW:
        counts = [(np.count_nonzero(sums_v > own), np.count_nonzero(sums_v == own)) for own in own_T]
        above_T, level_T = np.array(counts, np.int64).T
        return above_T, level_T
    sorted_v = np.sort(sums_v)
    upto_T = np.searchsorted(sorted_v, own_T, side="right")
    return len(sorted_v) - upto_T, upto_T - np.searchsorted(sorted_v, own_T)
