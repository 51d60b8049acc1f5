"""A Markov chain of the first order: what was taken after the user's last item, by anybody; else what is popular.

T questions, V items. With n(i, j) the number of times that j was the target of a question whose last item token was i,
and p(j) the popularity of j, its share of all targets of live items, the score after i is Dirichlet's smoothing

    (n(i, j) + STRENGTH * p(j)) / (n(i) + STRENGTH)

whose denominator all items share, so it is left out. Counts and popularity fade with one half-life: what no longer
happens is forgotten, and a row that has not been met for long gives way to what is popular now. With a half-life far
longer than the log nothing fades. Where nobody has gone on from the user's last item yet, the one before it is asked,
and so on; a user without any is answered by popularity alone. Shown and acted-on items count alike. Rows keep the
columns that pair_counts.py keeps.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.jit import compiled
from model.baselines.base import Baseline, among_candidates
from model.baselines.histories import latest
from model.baselines.pair_counts import PairCounts
from model.baselines.popularity import Popularity
from model.baselines.rank_counts import levels
from model.data.candidates import Questions

STRENGTH: Final = 1.0  # of popularity, in transitions

Array = NDArray[Any]


class Markov(Baseline):
    """Faded counts of transitions, and popularity behind them."""

    name = "markov"
    title = "Markov chain, backs off to fading popularity"

    def __init__(self, half_life_ms: int) -> None:
        self._met = PairCounts(half_life_ms)
        self._popularity = Popularity(half_life_ms)

    def scores(self, questions: Questions) -> NDArray[np.float64]:
        """Give the numerators, [T, V]."""
        last_T, factor_T, base_V = self._prepare(questions)
        score_TV = np.tile(base_V, (len(questions), 1))
        _add_rows(last_T, factor_T, *self._met.all, score_TV)
        return among_candidates(score_TV, questions)

    def ranks(self, questions: Questions) -> NDArray[np.float64]:
        """Give the target's rank, inf for a miss, [T]: by popularity, set right for the items met after the last."""
        if not questions.possible.any():
            return np.full(len(questions), np.inf)
        last_T, factor_T, base_V = self._prepare(questions)
        target_T = np.maximum(questions.targets, 0)
        met_T = np.where(last_T >= 0, self._met.values(np.maximum(last_T, 0), target_T), 0.0)
        own_T = base_V[target_T] + met_T * factor_T
        above_T, level_T = levels(base_V, own_T, questions)
        asked = questions.request_ms, questions.live, questions.born_ms
        _set_right(last_T, factor_T, own_T, base_V, *asked, *self._met.all, above_T, level_T)
        return np.where(questions.possible, 1 + above_T + (level_T - 1) / 2, np.inf)

    def _prepare(self, questions: Questions) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Give each question's last item, how much the counts have faded by then, and what popularity adds."""
        self._met.grow(len(questions.born_ms))
        base_V = STRENGTH * self._popularity.shares(questions)
        return latest(questions, 1, self._met.met)[:, 0], self._met.clock.factors(questions.request_ms), base_V

    def learn(self, questions: Questions) -> None:
        """Count the transitions at their requests, and the targets."""
        last_T = latest(questions, 1)[:, 0]
        there_T = last_T >= 0
        self._met.add(last_T[there_T], questions.targets[there_T], questions.request_ms[there_T])
        self._popularity.learn(questions)


@compiled
def _add_rows(
    last_T: Array, factor_T: Array, starts: Array, lengths: Array, columns: Array, sums: Array, score_TV: Array
) -> None:
    for t in range(len(last_T)):
        if last_T[t] >= 0:
            first = starts[last_T[t]]
            for k in range(first, first + lengths[last_T[t]]):
                score_TV[t, columns[k]] += sums[k] * factor_T[t]


@compiled
def _set_right(
    last_T: Array, factor_T: Array, own_T: Array, base_V: Array, request_ms_T: Array, live_V: Array, born_ms_V: Array,
    starts: Array, lengths: Array, columns: Array, sums: Array, above_T: Array, level_T: Array,
) -> None:  # fmt: skip
    """Take the candidates that were met after the last item out of the counts, and count them again by their scores."""
    for t in range(len(last_T)):
        if last_T[t] < 0:
            continue
        first, own = starts[last_T[t]], own_T[t]
        for k in range(first, first + lengths[last_T[t]]):
            j = columns[k]
            if live_V[j] and born_ms_V[j] < request_ms_T[t]:
                base = base_V[j]
                score = base + sums[k] * factor_T[t]
                above_T[t] += np.int64(score > own) - np.int64(base > own)
                level_T[t] += np.int64(score == own) - np.int64(base == own)
