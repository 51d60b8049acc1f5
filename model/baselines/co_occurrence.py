"""Item to item: what goes together with what the user had last, by anybody; else what is popular.

T questions, V items, m = WINDOW. A target goes together with each of the WINDOW item tokens before its query. With
c(i, j) the number of times that i and j went together, either being the target, and c(i) the sum of c(i, j) over j,
the score of a candidate j is the sum over the user's last WINDOW item tokens i of the cosine

    c(i, j) / sqrt(c(i) c(j))

to which 2 is added where j went together with any of them, so that all others come behind, by popularity, the share of
all targets of live items. Counts and popularity fade with one half-life, so that in a drifting world what goes together
now is not outvoted by what did; from a cosine a common fading cancels, so that an item does not lose to the others by
being met seldom. With a half-life far longer than the log nothing fades. Items that went together with none yet are
passed over in the user's history. Shown and acted-on items count alike. Rows keep the columns that pair_counts.py
keeps, c(i) counts them all.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import with_room
from model.arrays.jit import compiled
from model.baselines.base import Baseline, among_candidates
from model.baselines.histories import latest
from model.baselines.pair_counts import PairCounts
from model.baselines.popularity import Popularity
from model.baselines.rank_counts import levels
from model.data.candidates import Questions

WINDOW: Final = 10  # item tokens of a user

Array = NDArray[Any]


class CoOccurrence(Baseline):
    """Faded counts of what went together, and popularity behind them."""

    name = "co_occurrence"
    title = "Item to item, backs off to fading popularity"

    def __init__(self, half_life_ms: int) -> None:
        self._met = PairCounts(half_life_ms)
        self._totals = np.empty(0, np.float64)  # [V and room for more] c(i) as of the clock's origin
        self._popularity = Popularity(half_life_ms)

    def scores(self, questions: Questions) -> NDArray[np.float64]:
        """Give 2 + the sum of cosines, or popularity, [T, V]."""
        last_Tm, share_V, inverse_V = self._prepare(questions)
        score_TV = np.tile(share_V, (len(questions), 1))
        _fill(last_Tm, inverse_V, *self._met.all, *_room(len(share_V)), score_TV)
        return among_candidates(score_TV, questions)

    def ranks(self, questions: Questions) -> NDArray[np.float64]:
        """Give the target's rank, inf for a miss, [T]."""
        if not questions.possible.any():
            return np.full(len(questions), np.inf)
        last_Tm, share_V, inverse_V = self._prepare(questions)
        target_T = np.maximum(questions.targets, 0)
        above_T, level_T = levels(share_V, share_V[target_T], questions)  # as if nothing went together
        asked = questions.request_ms, questions.live, questions.born_ms
        room = _room(len(share_V))
        _set_right(last_Tm, target_T, share_V, *asked, inverse_V, *self._met.all, *room, above_T, level_T)
        return np.where(questions.possible, 1 + above_T + (level_T - 1) / 2, np.inf)

    def _prepare(self, questions: Questions) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Give each question's last items, popularity, and 1 / sqrt(c) of every item."""
        self._grow(len(questions.born_ms))
        total_V = self._totals[: len(questions.born_ms)]
        inverse_V = np.divide(1.0, np.sqrt(total_V), out=np.zeros_like(total_V), where=total_V > 0)
        return latest(questions, WINDOW, self._met.met), self._popularity.shares(questions), inverse_V

    def _grow(self, rows: int) -> None:
        self._met.grow(rows)
        self._totals = with_room(self._totals, rows)

    def learn(self, questions: Questions) -> None:
        """Count what went together at its request, and the targets."""
        last_Tm = latest(questions, WINDOW)
        there_Tm = last_Tm >= 0
        last_n = last_Tm[there_Tm]
        target_n, ts_ms_n = (
            np.broadcast_to(column[:, None], last_Tm.shape)[there_Tm]
            for column in (questions.targets, questions.request_ms)
        )
        both = np.stack((last_n, target_n), 1)
        rows_n, columns_n, ts_ms_n = both.ravel(), both[:, ::-1].ravel(), np.repeat(ts_ms_n, 2)
        origin = self._met.clock.origin
        self._met.add(rows_n, columns_n, ts_ms_n)
        self._grow(1 + int(rows_n.max(initial=-1)))
        if self._met.clock.origin != origin:
            self._totals = np.ldexp(self._totals, origin - self._met.clock.origin)
        np.add.at(self._totals, rows_n, self._met.clock.weights(ts_ms_n))
        self._popularity.learn(questions)


def _room(items: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Give what the loops add up in: each item's sum, the question that has touched it last; the items touched."""
    return np.zeros(items), np.full(items, -1), np.zeros(items, np.int64)


@compiled
def _add_up(
    t: int, last_m: Array, inverse_V: Array, starts: Array, lengths: Array, columns: Array, sums: Array,
    sums_V: Array, seen_V: Array, touched_V: Array,
) -> int:  # fmt: skip
    """Let sums_V be the score of every item that went together with one of a question's, and give their number."""
    count = 0
    for i in last_m:
        if i < 0:
            continue
        for k in range(starts[i], starts[i] + lengths[i]):
            j = columns[k]
            if seen_V[j] != t:
                seen_V[j], sums_V[j], touched_V[count] = t, 0.0, j
                count += 1
            sums_V[j] += sums[k] * inverse_V[i]
    for c in range(count):
        j = touched_V[c]
        sums_V[j] = 2.0 + sums_V[j] * inverse_V[j]
    return count


@compiled
def _fill(
    last_Tm: Array, inverse_V: Array, starts: Array, lengths: Array, columns: Array, sums: Array,
    sums_V: Array, seen_V: Array, touched_V: Array, score_TV: Array,
) -> None:  # fmt: skip
    room = sums_V, seen_V, touched_V
    for t in range(len(last_Tm)):
        count = _add_up(t, last_Tm[t], inverse_V, starts, lengths, columns, sums, *room)
        for j in touched_V[:count]:
            score_TV[t, j] = sums_V[j]


@compiled
def _set_right(
    last_Tm: Array, target_T: Array, share_V: Array, request_ms_T: Array, live_V: Array, born_ms_V: Array,
    inverse_V: Array, starts: Array, lengths: Array, columns: Array, sums: Array,
    sums_V: Array, seen_V: Array, touched_V: Array, above_T: Array, level_T: Array,
) -> None:  # fmt: skip
    """Turn counts of candidates that are more or as popular into counts of those that score higher or the same."""
    room = sums_V, seen_V, touched_V
    for t in range(len(last_Tm)):
        count = _add_up(t, last_Tm[t], inverse_V, starts, lengths, columns, sums, *room)
        target = target_T[t]
        together = seen_V[target] == t
        own = sums_V[target] if together else share_V[target]
        if together:
            above_T[t] = level_T[t] = 0
        for j in touched_V[:count]:
            if live_V[j] and born_ms_V[j] < request_ms_T[t]:
                above_T[t] += np.int64(sums_V[j] > own)
                level_T[t] += np.int64(sums_V[j] == own)
                if not together:
                    above_T[t] -= np.int64(share_V[j] > own)
                    level_T[t] -= np.int64(share_V[j] == own)
