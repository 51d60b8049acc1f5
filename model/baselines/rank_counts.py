"""How many candidates of each question score above some number, where all questions share the scores.

T questions, V items, y young ones. Items that are candidates of every question are counted for all at once, by sorting;
those born between the first and the last request are looked at one by one.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.candidates import Questions

FEW: Final = 64  # numbers: comparing everything with each costs less than sorting, up to about 80
_CELLS: Final = 1 << 22  # pairs of question and young item looked at at once


def levels(
    score_V: NDArray[np.float64], own_T: NDArray[np.float64], questions: Questions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the candidates that score above `own`, and those level with it, [T] each."""
    if not len(questions):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    born_ms_V, request_ms_T1 = questions.born_ms, questions.request_ms[:, None]
    old_V = born_ms_V < request_ms_T1.min()
    above_T, level_T = compare(score_V[questions.live & old_V], own_T)
    young_y = np.flatnonzero(questions.live & ~old_V & (born_ms_V < request_ms_T1.max()))
    size = max(1, _CELLS // max(1, len(young_y)))
    for start in range(0, len(questions) if len(young_y) else 0, size):
        part = slice(start, start + size)
        candidate_ty = born_ms_V[young_y] < request_ms_T1[part]
        above_T[part] += (candidate_ty & (score_V[young_y] > own_T[part, None])).sum(1)
        level_T[part] += (candidate_ty & (score_V[young_y] == own_T[part, None])).sum(1)
    return above_T, level_T


def compare(score_v: NDArray[np.float64], own_T: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the scores above each of some numbers, and those level with it, [T] each."""
    if len(own_T) <= FEW:
        counts = [(np.count_nonzero(score_v > own), np.count_nonzero(score_v == own)) for own in own_T]
        above_T, level_T = np.array(counts, np.int64).reshape(-1, 2).T
        return above_T, level_T
    sorted_v = np.sort(score_v)
    upto_T = np.searchsorted(sorted_v, own_T, side="right")
    return len(sorted_v) - upto_T, upto_T - np.searchsorted(sorted_v, own_T)
