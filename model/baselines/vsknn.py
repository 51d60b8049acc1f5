"""Nearest histories: what users did whose last items are most like the user's own; else what is popular.

T questions, V items, n = pairs of a question and an item. The score of a candidate is the sum of the similarities of
the nearest other users that have it lately (model/counting/neighbours.py says who they are), to which 2 is added, so
that all others come behind by popularity. Source: VS-KNN, Ludewig and Jannach, Evaluation of session-based
recommendation algorithms, 2018.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arrays.jit import compiled
from model.baselines.back_off import BackOff
from model.counting import neighbours
from model.counting.histories import latest
from model.counting.neighbours import ITEMS, NEAREST, Histories, Memory, Neighbours, keep, nearest, slot_of
from model.counting.rank_counts import Exceptions
from model.data.candidates import Questions

Array = NDArray[Any]
_CALLED = (neighbours.__file__,)


class Vsknn(BackOff):
    """Histories of users, and popularity behind them."""

    name = "vsknn"
    title = "Nearest histories (VS-KNN), backs off to popularity"

    def __init__(self, half_life_ms: int) -> None:
        super().__init__(half_life_ms)
        self._neighbours = Neighbours()

    def _score(self, questions: Questions) -> tuple[NDArray[np.float64], Exceptions]:
        """Return popularity, and 2 + the similarity of the neighbours that have an item."""
        rows = len(questions.born_ms)
        self._neighbours.grow(rows)
        kept = self._neighbours.histories
        last_Tm = latest(questions, ITEMS, kept.latest[:rows] > 0)
        found = _neighbours(questions.users, last_Tm, kept, self._neighbours.memory())
        return self._popularity.shares(questions), Exceptions(*found)

    def learn(self, questions: Questions) -> None:
        """Keep each target in the history of its user."""
        self._neighbours.grow(len(questions.born_ms))
        _keep(questions.users, questions.targets, latest(questions, ITEMS), self._neighbours.histories)
        self._popularity.learn(questions)


@partial(compiled, calls=_CALLED)
def _keep(users: Array, targets: Array, last_Tm: Array, kept: Histories) -> None:
    for t in range(len(users)):
        keep(users[t], targets[t], last_Tm[t], kept)


@partial(compiled, calls=_CALLED)
def _neighbours(users: Array, last_Tm: Array, kept: Histories, memory: Memory) -> tuple[Array, Array, Array]:
    """Return question, row and score of every item that a neighbour has, [n] each."""
    most = len(users) * NEAREST * ITEMS
    question_n, row_n, score_n = np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(most)
    at_V, n = np.full(len(kept.latest), -1), 0
    for t in range(len(users)):
        first = n
        slots, similar = nearest(slot_of(users[t], kept), last_Tm[t], kept, memory)
        for k in range(len(slots)):
            for place in range(slots[k] * ITEMS, (slots[k] + 1) * ITEMS):
                if kept.stamps[place]:
                    j = kept.items[place]
                    if at_V[j] < first:
                        at_V[j], question_n[n], row_n[n], score_n[n] = n, t, j, 2.0
                        n += 1
                    score_n[at_V[j]] += similar[k]
    return question_n[:n], row_n[:n], score_n[:n]
