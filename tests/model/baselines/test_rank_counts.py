import numpy as np
import pytest
from hypothesis import given, strategies as st

import model.baselines.rank_counts
from model.baselines.rank_counts import compare, levels
from tests.batches import Quiz, quizzes


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_few_numbers_are_counted_as_many_are(scores: list[int], own: list[int]) -> None:
    """Comparing with each number gives what sorting gives."""
    arrays = np.array(scores, np.float64), np.array(own, np.float64)
    counted = compare(*arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.baselines.rank_counts, "FEW", 0)
        for few, many in zip(counted, compare(*arrays), strict=True):
            assert np.array_equal(few, many)


@given(quizzes(), st.data())
def test_candidates_alone_are_counted(quiz: Quiz, data: st.DataObject) -> None:
    """Those that score above a question's number and those level with it, however many questions are taken at once."""
    scores = data.draw(st.lists(st.integers(0, 3), min_size=len(quiz.born_ms), max_size=len(quiz.born_ms)))
    own = data.draw(st.lists(st.integers(0, 3), min_size=len(quiz.targets), max_size=len(quiz.targets)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.baselines.rank_counts, "_CELLS", data.draw(st.sampled_from([1, 2**22])))
        above, level = levels(np.array(scores, np.float64), np.array(own, np.float64), quiz.questions)
    for t in range(len(quiz.targets)):
        candidates = [scores[v] for v in quiz.candidates(t)]
        assert above[t] == sum(score > own[t] for score in candidates)
        assert level[t] == sum(score == own[t] for score in candidates)
