import numpy as np
from hypothesis import given, strategies as st

from model.counting.histories import latest
from tests.batches import UNKNOWN, Quiz, quizzes


@given(quizzes(), st.integers(1, 4), st.sets(st.integers(0, 3)))
def test_the_last_items_come_latest_first(quiz: Quiz, count: int, counted: set[int]) -> None:
    """Known items up to the query, repeated ones repeatedly; with a mask of counted items, these only."""
    counted_V = np.isin(np.arange(len(quiz.born_ms)), list(counted))
    for wanted, found in (
        (set(range(9)), latest(quiz.questions, count)),
        (counted, latest(quiz.questions, count, counted_V)),
    ):
        for history, row in zip(quiz.histories, found.tolist(), strict=True):
            known = [item for item in history if item not in (None, UNKNOWN) and item in wanted]
            last = known[::-1][:count]
            assert row == last + [-1] * (count - len(last))
