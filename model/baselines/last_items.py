"""The user's own last items, latest first: the rival that a model must beat wherever people come back to what they had.

T = questions, L = tokens. A target that occurs in the user's history up to the query is ranked by recency among the
distinct candidates there; any other is a miss. Shown and acted-on items count alike; the later a token stands in the
sequence, the more recent it is.
"""

import numpy as np
from numpy.typing import NDArray

from model.questions import Questions


class LastItems:
    """Ranks by recency in the history that a question brings along, so that there is nothing to keep."""

    def ranks(self, questions: Questions) -> NDArray[np.float64]:
        """Give the target's rank, inf for a miss, [T]."""
        rank_T = np.full(len(questions), np.inf)
        for i in np.flatnonzero(questions.possible):
            history = questions.rows[questions.starts[i] : questions.queries[i] + 1]
            here = np.flatnonzero(history == questions.targets[i])
            if here.size:
                since = np.unique(history[here[-1] :])
                rank_T[i] = questions.candidates(since[since >= 0], questions.request_ms[i]).sum()
        return rank_T

    def learn(self, questions: Questions) -> None:
        """Learn nothing: the next questions bring their own histories."""
