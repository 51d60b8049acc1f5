import numpy as np
import pytest
from hypothesis import given, strategies as st

import model.counting.rank_counts
from model.counting.rank_counts import Exceptions, compare, higher_and_equal, ranks_with_exceptions
from tests.batches import Quiz, quizzes


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_few_numbers_are_counted_as_many_are(scores: list[int], own: list[int]) -> None:
    """Comparing with each number gives what sorting gives."""
    arrays = np.array(scores, np.float64), np.array(own, np.float64)
    counted = compare(*arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.counting.rank_counts, "FEW", 0)
        for few, many in zip(counted, compare(*arrays), strict=True):
            assert np.array_equal(few, many)


@given(quizzes(), st.data())
def test_candidates_alone_are_counted(quiz: Quiz, data: st.DataObject) -> None:
    """Those above a question's number and those equal to it, however many questions are taken at once."""
    scores = data.draw(st.lists(st.integers(0, 3), min_size=len(quiz.born_ms), max_size=len(quiz.born_ms)))
    own = data.draw(st.lists(st.integers(0, 3), min_size=len(quiz.targets), max_size=len(quiz.targets)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.counting.rank_counts, "CELLS", data.draw(st.sampled_from([1, 2**22])))
        higher, equal = higher_and_equal(np.array(scores, np.float64), np.array(own, np.float64), quiz.questions)
    for t in range(len(quiz.targets)):
        candidates = [scores[v] for v in quiz.candidates(t)]
        assert higher[t] == sum(score > own[t] for score in candidates)
        assert equal[t] == sum(score == own[t] for score in candidates)


@given(quizzes(), st.data())
def test_exceptions_take_the_place_of_shared_scores(quiz: Quiz, data: st.DataObject) -> None:
    """Ranks are those of a full matrix of scores in which the exceptions are filled in; no candidate, no rank."""
    V, T = len(quiz.born_ms), len(quiz.targets)
    shared = data.draw(st.lists(st.integers(0, 3), min_size=V, max_size=V))
    pairs = st.dictionaries(st.tuples(st.integers(0, T - 1), st.integers(0, V - 1)), st.integers(0, 4), max_size=8)
    own = data.draw(pairs if T and V and quiz.questions.possible.any() else st.just({}))
    questions, rows = (np.array([pair[i] for pair in own], np.int64) for i in (0, 1))
    exceptions = Exceptions(questions, rows, np.array(list(own.values()), np.float64))
    if not quiz.questions.possible.any():
        return
    found = ranks_with_exceptions(np.array(shared, np.float64), exceptions, quiz.questions)
    for t, target in enumerate(quiz.targets):
        scores = {v: own.get((t, v), shared[v]) for v in quiz.candidates(t)}
        higher = sum(score > scores[target] for score in scores.values()) if target in scores else np.inf
        equal = sum(score == scores[target] for score in scores.values()) if target in scores else 1
        assert found[t] == 1 + higher + (equal - 1) / 2
