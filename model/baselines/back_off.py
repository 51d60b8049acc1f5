"""Baselines that know something of few items and back off to popularity for all others.

T questions, V items. Counts and popularity decay with one half-life, so that in a drifting world the past does not
outvote the present; with a half-life far longer than the log nothing decays.
"""

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from model.baselines.base import Baseline, among_candidates
from model.baselines.popularity import Popularity
from model.counting.pair_counts import PairCounts
from model.counting.rank_counts import Exceptions, ranks_with_exceptions
from model.data.candidates import Questions


class BackOff(Baseline):
    """Popularity behind what `_score` knows better."""

    def __init__(self, half_life_ms: int) -> None:
        self._popularity = Popularity(half_life_ms)

    @abstractmethod
    def _score(self, questions: Questions) -> tuple[NDArray[np.float64], Exceptions]:
        """Return the scores that all questions share, [V], and the items that a question scores otherwise."""

    def scores(self, questions: Questions) -> NDArray[np.float64]:
        """Return the scores of the candidates, [T, V]."""
        score_V, exceptions = self._score(questions)
        score_TV = np.tile(score_V, (len(questions), 1))
        score_TV[exceptions.questions, exceptions.rows] = exceptions.scores
        return among_candidates(score_TV, questions)

    def fast_ranks(self, questions: Questions) -> NDArray[np.float64]:
        """Return each target's rank, inf for a miss, [T]."""
        if not questions.possible.any():
            return np.full(len(questions), np.inf)
        return ranks_with_exceptions(*self._score(questions), questions)


class PairBackOff(BackOff):
    """Counts of pairs of items, of one that a user had and a target; a row of them keeps what pair_counts.py keeps."""

    def __init__(self, half_life_ms: int) -> None:
        super().__init__(half_life_ms)
        self._pairs = PairCounts(half_life_ms)
