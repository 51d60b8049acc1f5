"""Nearest histories: what users did whose last items are most like the user's own; else what is popular.

T questions, V items, m = ITEMS last items, S = SLOTS users, n = pairs of a question and an item. The neighbours of a
question are the latest TAKERS takers of the user's last items that anybody has taken, the last item's first, of whom
the NEAREST most similar count. With w_k = FADE^k the weight of the k-th last of these items (its latest place), the
similarity of a neighbour is

    s = sum of w over the items that both have / sqrt(number of the neighbour's items)

and the score of a candidate is the sum of s over the neighbours that have it, to which 2 is added, so that all others
come behind by popularity. Source: VS-KNN, Ludewig and Jannach, Evaluation of session-based recommendation algorithms,
2018; a history is its user's last ITEMS actions here, as it was at the user's latest target.

Memory is bounded: S users, of whom a new one takes the place of another by the hash of the key, and RECENT takers of
each item. Ties go to the later taker.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import with_room
from model.arrays.jit import compiled
from model.baselines.back_off import BackOff
from model.counting.histories import latest
from model.counting.rank_counts import Exceptions
from model.data.candidates import Questions

ITEMS: Final = 20  # last items of a user
RECENT: Final = 100  # takers of an item that are kept
TAKERS: Final = 500  # neighbours that are compared
NEAREST: Final = 200  # neighbours that count
SLOTS: Final = 1 << 16  # users whose histories are kept
FADE: Final = 0.9

Array = NDArray[Any]


class Vsknn(BackOff):
    """Histories of users, takers of items, and popularity behind them."""

    name = "vsknn"
    title = "Nearest histories (VS-KNN), backs off to popularity"

    def __init__(self, half_life_ms: int) -> None:
        super().__init__(half_life_ms)
        self._users = np.zeros(SLOTS, np.uint64)
        self._histories = np.full((SLOTS, ITEMS), -1, np.int32)  # latest first
        self._takers = np.empty((0, RECENT), np.uint64)  # [V and room for more] a ring of users for each item
        self._taken = np.empty(0, np.int64)  # [V and room for more] how often each was taken

    def _score(self, questions: Questions) -> tuple[NDArray[np.float64], Exceptions]:
        """Return popularity, and 2 + the similarity of the neighbours that have an item."""
        self._grow(len(questions.born_ms))
        last_Tm = latest(questions, ITEMS, self._taken[: len(questions.born_ms)] > 0)
        found = _neighbours(questions.users, last_Tm, self._users, self._histories, self._takers, self._taken)
        return self._popularity.shares(questions), Exceptions(*found)

    def learn(self, questions: Questions) -> None:
        """Keep each user's history with the target, and the user as its taker."""
        self._grow(1 + int(questions.targets.max(initial=-1)))
        history_Tm = np.column_stack((questions.targets, latest(questions, ITEMS - 1)))
        _keep(questions.users, history_Tm, self._users, self._histories, self._takers, self._taken)
        self._popularity.learn(questions)

    def _grow(self, rows: int) -> None:
        self._takers, self._taken = with_room(self._takers, rows), with_room(self._taken, rows)


@compiled
def _keep(users: Array, history_Tm: Array, kept: Array, histories: Array, takers: Array, taken: Array) -> None:
    """Keep the distinct items of each history, latest first, and each user as the taker of the first of them."""
    for t in range(len(users)):
        slot, n = users[t] % np.uint64(len(kept)), 0
        kept[slot] = users[t]
        for item in history_Tm[t]:
            if item >= 0 and not (histories[slot, :n] == item).any():
                histories[slot, n] = item
                n += 1
        histories[slot, n:] = -1
        first = history_Tm[t, 0]
        takers[first, taken[first] % takers.shape[1]] = users[t]
        taken[first] += 1


@compiled
def _compared(user: int, last: Array, kept: Array, takers: Array, taken: Array, met_S: Array, t: int) -> Array:
    """Return the slots of the latest takers of the last items."""
    slots, n = np.empty(TAKERS, np.int64), 0
    for i in last:
        if i < 0:
            break
        for k in range(1, min(taken[i], takers.shape[1]) + 1):
            other = takers[i, (taken[i] - k) % takers.shape[1]]
            slot = np.int64(other % np.uint64(len(kept)))
            if other == user or kept[slot] != other or met_S[slot] == t:
                continue
            met_S[slot], slots[n] = t, slot
            n += 1
            if n == TAKERS:
                return slots
    return slots[:n]


@compiled
def _similarity(history: Array, weight_V: Array) -> float:
    """Return the weight of the items of a history by the root of their number."""
    total, n = 0.0, 0
    for item in history:
        if item < 0:
            break
        total += weight_V[item]
        n += 1
    return float(total / np.sqrt(n))


@compiled
def _neighbours(
    users: Array, last_Tm: Array, kept: Array, histories: Array, takers: Array, taken: Array
) -> tuple[Array, Array, Array]:
    """Return question, row and score of every item that a neighbour has, [n] each."""
    most = len(users) * NEAREST * histories.shape[1]
    question_n, row_n, score_n = np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(most)
    weight_V, at_V, met_S = np.zeros(len(taken)), np.full(len(taken), -1), np.full(len(kept), -1)
    n = 0
    for t in range(len(users)):
        first, weight = n, 1.0
        for i in last_Tm[t]:
            if i >= 0 and weight_V[i] == 0:
                weight_V[i] = weight
            weight *= FADE
        slots = _compared(users[t], last_Tm[t], kept, takers, taken, met_S, t)
        similar = np.empty(len(slots))
        for k in range(len(slots)):
            similar[k] = _similarity(histories[slots[k]], weight_V)
        for k in np.argsort(-similar, kind="mergesort")[:NEAREST]:
            for j in histories[slots[k]]:
                if j < 0:
                    break
                if at_V[j] < first:
                    at_V[j], question_n[n], row_n[n], score_n[n] = n, t, j, 2.0
                    n += 1
                score_n[at_V[j]] += similar[k]
        for i in last_Tm[t]:
            if i >= 0:
                weight_V[i] = 0.0
    return question_n[:n], row_n[:n], score_n[:n]
