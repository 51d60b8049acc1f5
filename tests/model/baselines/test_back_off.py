"""Scores that all questions share, with a question's own in their place."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from model.baselines import BASELINES
from model.baselines.back_off import BackOff
from model.counting.rank_counts import Exceptions
from model.data.candidates import Questions
from model.evaluation.ranks import ranks
from tests.batches import Quiz, make_quiz, quizzes

Own = dict[tuple[int, int], int]


class Given(BackOff):
    """Has given scores, and nothing to learn."""

    name = title = "given"

    def __init__(self, shared: list[int], own: Own) -> None:
        super().__init__(1000)
        self.shared, self.own = np.array(shared, np.float64), own

    def _score(self, questions: Questions) -> tuple[NDArray[np.float64], Exceptions]:
        places = np.array(list(self.own), np.int64).reshape(-1, 2)
        return self.shared, Exceptions(places[:, 0], places[:, 1], np.array(list(self.own.values()), np.float64))

    def learn(self, questions: Questions) -> None:
        raise NotImplementedError


@st.composite
def given_scores(draw: st.DrawFn) -> tuple[Quiz, Given]:
    quiz = draw(quizzes())
    V, T = len(quiz.born_ms), len(quiz.targets)
    shared = draw(st.lists(st.integers(0, 3), min_size=V, max_size=V))
    pairs = st.tuples(st.integers(0, T - 1), st.integers(0, V - 1))
    own = draw(st.dictionaries(pairs, st.integers(0, 4), max_size=8)) if T and V else {}
    return quiz, Given(shared, own)


@given(given_scores())
def test_a_questions_own_scores_take_the_place_of_the_shared_ones(case: tuple[Quiz, Given]) -> None:
    """One question's own score is nobody else's; what is no candidate has none."""
    quiz, baseline = case
    scores = baseline.scores(quiz.questions)
    assert scores.shape == (len(quiz.targets), len(quiz.born_ms))
    for t, v in np.ndindex(scores.shape):
        wanted = baseline.own.get((t, v), baseline.shared[v]) if v in quiz.candidates(t) else -np.inf
        assert scores[t, v] == wanted


@given(given_scores())
def test_fast_ranks_are_those_of_the_scores(case: tuple[Quiz, Given]) -> None:
    """Counting exceptions gives what the full matrix of scores gives, misses included."""
    quiz, baseline = case
    if not quiz.questions.possible.any():
        assert baseline.fast_ranks(quiz.questions).tolist() == [np.inf] * len(quiz.targets)
        return
    every = torch.from_numpy(baseline.scores(quiz.questions))
    assert baseline.fast_ranks(quiz.questions).tolist() == ranks(every, quiz.questions).tolist()


@pytest.mark.parametrize("kind", [each for each in BASELINES.values() if issubclass(each, BackOff)])
def test_items_that_nobody_has_learnt_from_have_room(kind: type[BackOff]) -> None:
    """Counts grow with the vocabulary before they are read, by either way of asking."""
    quiz = make_quiz([0] * 9, [False] * 9, [8], [40], [[0]])
    assert kind(1000).scores(quiz.questions).tolist() == [[0.0] * 9]
    assert kind(1000).fast_ranks(quiz.questions).tolist() == [5.0]
