"""All counters in one log-linear model, whose weights are learnt online: what an encoder has to add to.

Popularity over several half-lives, what goes together with the user's last items, what follows the last one, what the
nearest histories have, and the user's own items (model/fusion/loops.py). Counts and weights move with each event, so
that a burst is seen within a micro-batch: `step` ranks a user's request by all requests before it.
"""

import numpy as np
from numpy.typing import NDArray

from model.baselines.base import Baseline
from model.data.candidates import Questions
from model.fusion.log_linear import Head, LogLinear

_HEADS = (Head(new_only=False, encoded=False), Head(new_only=True, encoded=False))


class Stack(Baseline):
    """Two heads: with and without the user's own items."""

    name = "stack"
    title = "All counters, log-linear"

    def __init__(self, half_life_ms: int = 0) -> None:
        """Accept a half-life as every baseline does; counts have half-lives of their own here."""
        self._model = LogLinear(_HEADS)

    def scores(self, questions: Questions) -> NDArray[np.float64]:
        """Return the scores of the candidates, [T, V]."""
        return self._model.scores(questions, head=0)

    def ranks(self, questions: Questions, *, exclude_seen: bool = False) -> NDArray[np.float64]:
        """Return the rank of each target by the counts as they are, inf for a miss, [T]."""
        return self._model.rank(questions, head=int(exclude_seen))

    def learn(self, questions: Questions) -> None:
        """Learn the weights by the answers, and count them, request by request."""
        self._model.step(questions, questions)

    def step(self, questions: Questions, answered: Questions, *, exclude_seen: bool = False) -> NDArray[np.float64]:
        """Return the rank of each target by all requests before it, [T], and learn them."""
        head = int(exclude_seen)
        rank_T: NDArray[np.float64] = self._model.step(questions, answered, ranked=[head])[head]
        return rank_T
