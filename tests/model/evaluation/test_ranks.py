import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import model.evaluation.ranks
from model.evaluation.ranks import ranks
from tests.batches import Quiz, quizzes


def rank_by_sorting(quiz: Quiz, t: int, scores: list[float]) -> float:
    """Return the mean place of the candidates that score like the target, by sorting."""
    candidates = quiz.candidates(t)
    if quiz.targets[t] not in candidates:
        return math.inf
    ordered = sorted((scores[v] for v in candidates), reverse=True)
    places = [place for place, score in enumerate(ordered, 1) if score == scores[quiz.targets[t]]]
    return sum(places) / len(places)


@given(quizzes(), st.data())
def test_ranks_agree_with_sorting(quiz: Quiz, data: st.DataObject) -> None:
    """Ties share their mean rank; only candidates count; a target that is not a candidate is a miss."""
    shape = len(quiz.targets), len(quiz.born_ms)
    score = st.integers(-2, 2).map(float) | st.sampled_from([math.inf, -math.inf])
    scores = [[data.draw(score) for _ in range(shape[1])] for _ in range(shape[0])]
    by_hand = [rank_by_sorting(quiz, t, row) for t, row in enumerate(scores)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.evaluation.ranks, "_RANK_BLOCK", data.draw(st.integers(1, 9)))
        got = ranks(torch.tensor(scores).reshape(shape), quiz.questions)
    assert got.dtype == np.float64
    assert got.tolist() == by_hand


@given(quizzes())
def test_a_model_that_gives_nan_hits_nothing(quiz: Quiz) -> None:
    """NaN scores of targets are misses."""
    scores = torch.full((len(quiz.targets), len(quiz.born_ms)), math.nan)
    assert ranks(scores, quiz.questions).tolist() == [math.inf] * len(quiz.targets)


@pytest.mark.gpu
@given(quizzes())
@settings(deadline=None)  # the first call starts CUDA
def test_ranks_are_the_same_on_a_gpu(quiz: Quiz) -> None:
    """The scores may live on any device."""
    shape = len(quiz.targets), len(quiz.born_ms)
    scores = torch.arange(math.prod(shape)).reshape(shape).remainder(3).float()
    assert np.array_equal(ranks(scores.cuda(), quiz.questions), ranks(scores, quiz.questions))
