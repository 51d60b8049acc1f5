"""A Markov chain of the first order: what anybody took after the user's last item; else what is popular.

T questions, V items. With n(i, j) the number of times that j was the target of a question whose last item token was i,
and p(j) the popularity of j, its share of all targets of live items, the score after i is Dirichlet's smoothing

    (n(i, j) + STRENGTH * p(j)) / (n(i) + STRENGTH)

whose denominator all items share, so it is left out. Where nobody has gone on from the user's last item yet, the one
before it is used, and so on; a user without any is answered by popularity alone. Decay: back_off.py.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.baselines.back_off import PairBackOff
from model.counting.histories import latest
from model.counting.rank_counts import Exceptions
from model.data.candidates import Questions

STRENGTH: Final = 1.0  # of popularity, in transitions


class Markov(PairBackOff):
    """Decayed counts of transitions, and popularity behind them."""

    name = "markov"
    title = "Markov chain, backs off to fading popularity"

    def _score(self, questions: Questions) -> tuple[NDArray[np.float64], Exceptions]:
        """Return what popularity adds, and the numerators of the items that followed the last one."""
        self._pairs.grow(len(questions.born_ms))
        share_V = STRENGTH * self._popularity.shares(questions)
        last_T = latest(questions, 1, self._pairs.filled)[:, 0]
        decay_T = self._pairs.clock.factors(questions.request_ms)
        question_n, row_n, sum_n = self._pairs.entries(last_T)
        return share_V, Exceptions(question_n, row_n, share_V[row_n] + sum_n * decay_T[question_n])

    def learn(self, questions: Questions) -> None:
        """Count the transitions at their requests, and the targets."""
        last_T = latest(questions, 1)[:, 0]
        there_T = last_T >= 0
        self._pairs.add(last_T[there_T], questions.targets[there_T], questions.request_ms[there_T])
        self._popularity.learn(questions)
