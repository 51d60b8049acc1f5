import numpy as np
from hypothesis import given

from model.item_age import UNBORN
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
        assert set(np.flatnonzero(asked.candidates(every, quiz.request_ms[t]))) == quiz.candidates(t)


@given(quizzes())
def test_a_history_ends_at_the_query_and_knows_no_attributes(quiz: Quiz) -> None:
    """Rows of the user's tokens up to the query; -1 stands for attributes and unknown items."""
    asked = quiz.questions
    for t, history in enumerate(quiz.histories):
        rows = asked.rows[asked.starts[t] : asked.queries[t] + 1].tolist()
        assert rows == [-1 if item in (None, UNKNOWN) else item for item in history]
