"""Ranks where all questions share the score of most items: counting candidates costs a sort, not a score for each pair.

T questions, V items, y young ones, n exceptions. Items that are candidates of every question are counted for all at
once, by sorting; those born between the first and the last request (young) are compared question by question.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.data.candidates import Questions

FEW: Final = 64  # numbers: comparing all scores with each of them costs less than sorting, up to about 80
CELLS: Final = 1 << 22  # pairs of question and item held at once: 32 MiB of scores


class Exceptions(NamedTuple):
    """Items that a question scores otherwise; each pair of a question and an item once, [n] each."""

    questions: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]


def ranks_with_exceptions(
    score_V: NDArray[np.float64], exceptions: Exceptions, questions: Questions
) -> NDArray[np.float64]:
    """Return each target's rank by the shared scores and, in their place, those of the exceptions, [T]."""
    target_T = np.maximum(questions.targets, 0)
    own_T = score_V[target_T]
    question_n, row_n, score_n = exceptions
    target_n = row_n == target_T[question_n]
    own_T[question_n[target_n]] = score_n[target_n]
    higher_T, equal_T = higher_and_equal(score_V, own_T, questions)
    among_n = questions.are_candidates(question_n, row_n)
    question_n, shared_n, score_n = question_n[among_n], score_V[row_n[among_n]], score_n[among_n]
    own_n = own_T[question_n]

    def count(found_n: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(question_n[found_n], minlength=len(own_T))

    higher_T += count(score_n > own_n) - count(shared_n > own_n)
    equal_T += count(score_n == own_n) - count(shared_n == own_n)
    return questions.ranks(higher_T, equal_T)


def higher_and_equal(
    score_V: NDArray[np.float64], own_T: NDArray[np.float64], questions: Questions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count each question's candidates that score higher than its number, and those with an equal score, [T] each."""
    if not len(questions):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    born_ms_V, request_ms_T1 = questions.born_ms, questions.request_ms[:, None]
    old_V = born_ms_V < request_ms_T1.min()
    higher_T, equal_T = compare(score_V[questions.live & old_V], own_T)
    young_y = np.flatnonzero(questions.live & ~old_V & (born_ms_V < request_ms_T1.max()))
    size = max(1, CELLS // max(1, len(young_y)))
    for start in range(0, len(questions) if len(young_y) else 0, size):
        part = slice(start, start + size)
        candidate_ty = born_ms_V[young_y] < request_ms_T1[part]
        higher_T[part] += (candidate_ty & (score_V[young_y] > own_T[part, None])).sum(1)
        equal_T[part] += (candidate_ty & (score_V[young_y] == own_T[part, None])).sum(1)
    return higher_T, equal_T


def compare(score_v: NDArray[np.float64], own_T: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the scores higher than each number, and those equal to it, [T] each."""
    if len(own_T) <= FEW:
        counts = [(np.count_nonzero(score_v > own), np.count_nonzero(score_v == own)) for own in own_T]
        higher_T, equal_T = np.array(counts, np.int64).reshape(-1, 2).T
        return higher_T, equal_T
    sorted_v = np.sort(score_v)
    upto_T = np.searchsorted(sorted_v, own_T, side="right")
    return len(sorted_v) - upto_T, upto_T - np.searchsorted(sorted_v, own_T)
