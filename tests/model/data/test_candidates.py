import numpy as np
import torch
from hypothesis import given

from model.baselines.popularity import Popularity
from model.data.candidates import best_rows, exclude_seen
from model.data.item_age import UNBORN
from model.evaluation.ranks import ranks
from tests.batches import UNKNOWN, Quiz, quizzes


@given(quizzes())
def test_questions_know_their_targets_births_and_candidates(quiz: Quiz) -> None:
    """A target is possible if it is live and was born before its request; an unknown one is not born."""
    asked = quiz.questions
    assert len(asked) == len(quiz.targets)
    for t, target in enumerate(quiz.targets):
        assert asked.targets[t] == (-1 if target == UNKNOWN else target)
        assert asked.target_born_ms[t] == (UNBORN if target == UNKNOWN else quiz.born_ms[target])
        assert asked.possible[t] == (target in quiz.candidates(t))
        every = np.arange(len(quiz.born_ms))
        assert set(np.flatnonzero(asked.candidates()[t])) == quiz.candidates(t)
        assert set(np.flatnonzero(asked.are_candidates(np.full_like(every, t), every))) == quiz.candidates(t)


@given(quizzes())
def test_a_history_ends_at_the_query_and_has_what_was_acted_on(quiz: Quiz) -> None:
    """Rows of the user's actions up to the query; -1 stands for attributes, items only shown, and unknown ones."""
    asked = quiz.questions
    for t, history in enumerate(quiz.histories):
        rows = asked.rows[asked.starts[t] : asked.queries[t] + 1].tolist()
        assert rows == [-1 if item in (None, UNKNOWN) else item for item in history]


@given(quizzes())
def test_what_a_user_had_can_be_left_out(quiz: Quiz) -> None:
    """A target of the history is a miss, and its other items stand behind every candidate; for models and baselines."""
    scores = np.random.default_rng(0).permuted(
        np.tile(np.arange(len(quiz.born_ms), dtype=float), (len(quiz.targets), 1)), axis=1
    )
    asked, question_n, row_n = exclude_seen(quiz.questions)
    masked = scores.copy()
    masked[question_n, row_n] = -np.inf
    found = ranks(torch.from_numpy(masked), asked)
    popular = Popularity(10)
    popular.add(np.arange(len(quiz.born_ms)), np.zeros(len(quiz.born_ms), np.int64))
    tied = popular.ranks(quiz.questions, exclude_seen=True)
    for t, target in enumerate(quiz.targets):
        left = quiz.candidates(t) - set(quiz.histories[t])
        if target in left:
            assert found[t] == 1 + sum(scores[t, item] > scores[t, target] for item in left)
            assert tied[t] == (1 + len(left)) / 2
        else:
            assert found[t] == tied[t] == np.inf


@given(quizzes())
def test_the_best_are_candidates_in_order(quiz: Quiz) -> None:
    """The k best candidates, falling, and -1 where there are no more."""
    scores = np.random.default_rng(1).random((len(quiz.targets), len(quiz.born_ms)))
    for t, row in enumerate(best_rows(scores, quiz.questions, 3).tolist()):
        order = sorted(quiz.candidates(t), key=lambda item: -scores[t, item])[:3]
        assert row == order + [-1] * (3 - len(order))
