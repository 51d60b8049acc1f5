"""Decayed popularity: every occurrence of an item counts 1 at its own time and halves each half-life of event time.

V = rows of the item vocabulary, n = occurrences. The count of an item at time t is the sum of 2^((ts - t) / half-life)
over its occurrences. The sums are kept as of the clock's origin (decay.py), so an occurrence costs O(1).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import have_room
from model.baselines.base import Baseline, among_candidates
from model.counting.decay import DecayClock
from model.counting.rank_counts import higher_and_equal
from model.data.candidates import Questions


class Popularity(Baseline):
    """Decayed counts of occurrences by item row, and the ranking by them.

    >>> seen = Popularity(half_life_ms=10)
    >>> seen.add(np.array([0, 1, 1]), np.array([0, 0, 10]))
    >>> seen.counts(at_ms=10).tolist()
    [0.5, 1.5]
    """

    name = "popularity"
    title = "Popularity, fading"

    def __init__(self, half_life_ms: int) -> None:
        self._clock = DecayClock(half_life_ms)
        self._len = 0
        self._sums = np.empty(0, np.float64)  # [V and room for more] as of the origin

    def __len__(self) -> int:
        return self._len

    @property
    def half_life_ms(self) -> int:
        """Event time in which a count halves."""
        return self._clock.half_life_ms

    def grow(self, rows: int) -> None:
        """Have at least `rows` rows; new ones count 0."""
        have_room(vars(self), rows, "_sums")
        self._len = max(self._len, rows)

    def scores(self, questions: Questions) -> NDArray[np.float64]:
        """Return the counts as of the clock's origin, [T, V]; decay does not change their order."""
        return among_candidates(self._sums_of(questions), questions)

    def fast_ranks(self, questions: Questions) -> NDArray[np.float64]:
        """Return each target's rank, inf for a miss, [T]; all questions share the scores."""
        if not questions.possible.any():
            return np.full(len(questions), np.inf)
        sums_V = self._sums_of(questions)
        return questions.ranks(*higher_and_equal(sums_V, sums_V[questions.targets], questions))

    def shares(self, questions: Questions) -> NDArray[np.float64]:
        """Return each item's share of the decayed occurrences of live items, [V]; 0 where it is withdrawn."""
        sums_V = np.where(questions.live, self._sums_of(questions), 0.0)
        return sums_V / (sums_V.sum() or 1.0)

    def _sums_of(self, questions: Questions) -> NDArray[np.float64]:
        self.grow(len(questions.born_ms))
        return self._sums[: len(questions.born_ms)]

    def learn(self, questions: Questions) -> None:
        """Count the targets at their requests."""
        self.add(questions.targets, questions.request_ms)

    def add(self, rows_n: NDArray[np.int64], ts_ms_n: NDArray[np.int64]) -> None:
        """Count occurrences of items.

        Raises:
            ValueError: A row is negative: the vocabulary has not admitted the item.
        """
        if not len(rows_n):
            return
        if rows_n.min() < 0:
            raise ValueError(f"Popularity.add: row {rows_n.min()} is no row; admit the items before they are counted.")
        self.grow(int(rows_n.max()) + 1)
        if step := self._clock.advance(int(ts_ms_n.max())):
            self._sums = np.ldexp(self._sums, step)
        np.add.at(self._sums, rows_n, self._clock.weights(ts_ms_n))

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Set the counts of items that have died to 0."""
        self._sums[rows] = 0.0

    def counts(self, at_ms: int) -> NDArray[np.float64]:
        """Return the decayed count of every row at a time, [V]."""
        return self._clock.decayed(self._sums[: self._len], at_ms)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint; `sums` is a view."""
        clock = np.array([self._clock.origin, self.half_life_ms], np.int64)
        return {"sums": self._sums[: self._len], "clock": clock}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "Popularity":
        """Return the popularity of a state, with its half-life."""
        origin, half_life_ms = state["clock"].tolist()
        new = cls(half_life_ms)
        new._clock.origin = origin
        new._sums = np.array(state["sums"], np.float64)
        new._len = len(new._sums)
        return new
