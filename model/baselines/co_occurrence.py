"""Item to item: what goes together with the user's last items, for anybody; else what is popular.

T questions, V items, m = WINDOW, n = pairs of a question and an item. A target goes together with each of the WINDOW
item tokens before its query. With c(i, j) the number of times that i and j went together, either being the target, and
c(i) the sum of c(i, j) over j, the score of a candidate j is the sum over the user's last WINDOW item tokens i of the
cosine

    c(i, j) / sqrt(c(i) c(j))

to which 2 is added where j went together with any of them, so that all others come behind, by popularity, the share of
all targets of live items. From a cosine a common decay cancels, so an item does not lose to others by being rare. Items
of the history that went together with none yet are skipped. c(i) counts dropped columns too. Decay: back_off.py.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import have_room
from model.arrays.jit import compiled
from model.baselines.back_off import PairBackOff
from model.counting.histories import latest
from model.counting.pair_counts import PairColumns
from model.counting.rank_counts import Exceptions
from model.data.candidates import Questions

WINDOW: Final = 10  # item tokens of a user

Array = NDArray[Any]


class CoOccurrence(PairBackOff):
    """Decayed counts of what went together, and popularity behind them."""

    name = "co_occurrence"
    title = "Item to item, backs off to fading popularity"

    def __init__(self, half_life_ms: int) -> None:
        super().__init__(half_life_ms)
        self._totals = np.empty(0, np.float64)  # [V and room for more] c(i) as of the clock's origin

    def _score(self, questions: Questions) -> tuple[NDArray[np.float64], Exceptions]:
        """Return popularity, and 2 + the sum of cosines of the items that went together with the last ones."""
        self._pairs.grow(len(questions.born_ms))
        have_room(vars(self), len(questions.born_ms), "_totals")
        odd = self._pairs.clock.origin & 1  # roots are taken of sums at an even origin: their bits do not depend on it
        total_V = np.ldexp(self._totals[: len(questions.born_ms)], odd)
        inverse_V = np.divide(1.0, np.sqrt(total_V), out=np.zeros_like(total_V), where=total_V > 0)
        last_Tm = latest(questions, WINDOW, self._pairs.filled)
        return self._popularity.shares(questions), Exceptions(
            *_cosines(last_Tm, inverse_V, self._pairs.columns, 2.0**odd)
        )

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
        step = self._pairs.add(rows_n, columns_n, ts_ms_n)
        have_room(vars(self), 1 + int(rows_n.max(initial=-1)), "_totals")
        if step:
            self._totals = np.ldexp(self._totals, step)
        np.add.at(self._totals, rows_n, self._pairs.clock.weights(ts_ms_n))
        self._popularity.learn(questions)


@compiled
def _cosines(last_Tm: Array, inverse_V: Array, pairs: PairColumns, scale: float) -> tuple[Array, Array, Array]:
    """Return question, row and score of every item that went together with one of a question's last items, [n] each."""
    starts, lengths, columns, sums = pairs
    most = 0
    for i in last_Tm.ravel():
        if i >= 0:
            most += lengths[i]
    question_n, row_n, score_n = np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(most)
    at_V = np.full(len(inverse_V), -1)  # where an item stands in row_n; below `first`: not yet for this question
    n = 0
    for t in range(len(last_Tm)):
        first = n
        for i in last_Tm[t]:
            if i < 0:
                continue
            for k in range(starts[i], starts[i] + lengths[i]):
                j = columns[k]
                if at_V[j] < first:
                    at_V[j], question_n[n], row_n[n] = n, t, j
                    n += 1
                score_n[at_V[j]] += sums[k] * inverse_V[i]
        for c in range(first, n):
            score_n[c] = 2.0 + score_n[c] * inverse_V[row_n[c]] * scale
    return question_n[:n], row_n[:n], score_n[:n]
