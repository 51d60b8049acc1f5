import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

import model.baselines.base
from model.baselines.base import Baseline, among_candidates
from model.data.candidates import Questions
from tests.batches import Quiz, quizzes


class Fixed(Baseline):
    """Scores items by given numbers; negative ones are not recommended."""

    name = title = "fixed"

    def __init__(self, half_life_ms: int = 0, scores: list[int] | None = None) -> None:
        self._score_V = np.array([score if score >= 0 else -np.inf for score in scores or []], np.float64)

    def scores(self, questions: Questions) -> NDArray[np.float64]:
        return among_candidates(self._score_V, questions)

    def learn(self, questions: Questions) -> None:
        pass


@given(quizzes(), st.lists(st.integers(-1, 2), min_size=4, max_size=4), st.booleans(), st.sampled_from([1, 7, 2**22]))
def test_ranks_are_those_of_the_scores(quiz: Quiz, scores: list[int], exclude_seen: bool, cells: int) -> None:
    """Mean rank among equals, a miss without a score or outside the candidates; by any number of scores at once."""
    baseline = Fixed(scores=scores[: len(quiz.born_ms)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.baselines.base, "CELLS", cells)
        ranks = baseline.ranks(quiz.questions, exclude_seen=exclude_seen).tolist()
    for t, target in enumerate(quiz.targets):
        left = quiz.candidates(t) - (set(quiz.histories[t]) if exclude_seen else set())
        if target not in left or scores[target] < 0:
            assert ranks[t] == np.inf
            continue
        higher = sum(scores[v] > scores[target] for v in left)
        equal = sum(scores[v] == scores[target] for v in left)
        assert ranks[t] == 1 + higher + (equal - 1) / 2
