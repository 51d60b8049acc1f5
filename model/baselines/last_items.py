"""The user's own last items, latest first: the baseline to beat wherever people come back to what they had.

T = questions, L = tokens, n = pairs of a question and a token of its history. A target that occurs in the user's
history up to the query is ranked by recency among the distinct candidates there; any other is a miss. The later a
token stands in the sequence, the more recent it is.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.ranges import ranges
from model.baselines.base import Baseline
from model.data.candidates import Questions

_PAIRS: Final = 1 << 20  # held at once


class LastItems(Baseline):
    """Ranks by recency in the history that comes with a question, so there is nothing to keep."""

    name = "last_items"
    title = "The user's own last items"

    def __init__(self, half_life_ms: int = 0) -> None:
        """Accept a half-life as every baseline does; nothing decays here."""

    def scores(self, questions: Questions) -> NDArray[np.float64]:
        """Return minus the number of tokens after an item's last one; -inf for an item that is not in the history."""
        score_TV = np.full((len(questions), len(questions.born_ms)), -np.inf)
        for question_n, token_n in _listed(questions, questions.starts, _Tokens(questions)):
            score_TV[question_n, questions.rows[token_n]] = token_n - questions.queries[question_n]
        return score_TV

    def fast_ranks(self, questions: Questions) -> NDArray[np.float64]:
        """Return each target's rank, inf for a miss, [T]: the number of distinct candidates from its last token on."""
        tokens = _Tokens(questions)
        last_T = tokens.last()
        found_T = questions.possible & (last_T >= 0)
        rank_T = np.where(found_T, 0, np.inf)
        for question_n, _ in _listed(questions, np.where(found_T, last_T, len(questions.rows)), tokens):
            rank_T += np.bincount(question_n, minlength=len(rank_T))
        return rank_T

    def learn(self, questions: Questions) -> None:
        """Learn nothing: the next questions come with their histories."""


class _Tokens:
    """The item tokens of a batch, ordered by user, item and place."""

    def __init__(self, questions: Questions) -> None:
        self._questions, self._tokens = questions, len(questions.rows)
        self._starts = np.unique(questions.starts)
        self._items = 1 + int(questions.rows.max(initial=-1))
        items = np.flatnonzero(questions.rows >= 0)
        self._places = np.sort(self._place(items, questions.rows[items], items))

    def _place(
        self, starts: NDArray[np.int64], rows: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return numbers that ascend by user, item, token; any token of a user's sequence tells the user."""
        user = np.searchsorted(self._starts, starts, side="right")
        place: NDArray[np.int64] = (user * self._items + rows) * self._tokens + tokens
        return place

    def next(self) -> NDArray[np.int64]:
        """Return the user's next token of the same item, L where there is none, [L]."""
        next_L = np.full(self._tokens, self._tokens)
        if len(self._places):
            same = np.diff(self._places // self._tokens) == 0
            tokens = self._places % self._tokens
            next_L[tokens[:-1][same]] = tokens[1:][same]
        return next_L

    def last(self) -> NDArray[np.int64]:
        """Return the last token of each target up to its query, -1 where there is none, [T]."""
        asked = self._questions
        there_T = (asked.targets >= 0) & (asked.targets < self._items) & (asked.queries >= 0)
        last_T = np.full(len(asked), -1, np.int64)
        if len(self._places):
            wanted = self._place(asked.starts[there_T], asked.targets[there_T], asked.queries[there_T])
            found = self._places[np.searchsorted(self._places, wanted, side="right") - 1]
            same = (found <= wanted) & (found // self._tokens == wanted // self._tokens)
            last_T[there_T] = np.where(same, found % self._tokens, -1)
        return last_T


def _listed(
    questions: Questions, first_T: NDArray[np.int64], tokens: _Tokens
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (question, token) of the candidates' tokens from `first` to the query, the last one of each item."""
    next_L, length_T = tokens.next(), np.maximum(questions.queries - first_T + 1, 0)
    end_T = np.cumsum(length_T)
    borders = np.searchsorted(end_T, np.arange(_PAIRS, end_T[-1:].sum(), _PAIRS))
    for part in np.split(np.arange(len(questions)), borders):
        owner_n, token_n = ranges(first_T[part], length_T[part])
        question_n = part[owner_n]
        row_n = questions.rows[token_n]
        last_n = (row_n >= 0) & (next_L[token_n] > questions.queries[question_n])
        question_n, token_n, row_n = question_n[last_n], token_n[last_n], row_n[last_n]
        candidate_n = questions.are_candidates(question_n, row_n)
        yield question_n[candidate_n], token_n[candidate_n]
