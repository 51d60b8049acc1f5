"""Retrieval questions: which of the live items born before the request is the target? Every recommender answers these.

T = questions of one micro-batch, L = its tokens, V = rows of the item vocabulary. The candidates of a question are the
live items born before its request, as the vocabulary knows them before it admits the micro-batch. The model and the
baselines rank the same targets among the same candidates, so that their metrics compare.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.arrays.ranges import ranges
from model.data.catalogue import Catalogue, Features


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """T questions, each a target with its user's history and its candidates.

    They come twice (IndexedBatch): to be answered, over the vocabulary before admission, where an unknown item has row
    -1; and to be learned from, over the vocabulary after it, where every item has a row. All rows are below V in both.
    """

    targets: NDArray[np.int64]  # [T] row of the target, -1: unknown
    items: NDArray[np.uint64]  # [T] key of the target
    request_ms: NDArray[np.int64]  # [T]
    target_born_ms: NDArray[np.int64]  # [T] birth of the target before admission, UNBORN where it was unknown
    users: NDArray[np.uint64]  # [T] key of the user
    possible: NDArray[np.bool_]  # [T] whether the target itself was a candidate, before admission
    starts: NDArray[np.int64]  # [T] first token of the user's history, into L
    queries: NDArray[np.int64]  # [T] last token of it, into L; -1: no history
    rows: NDArray[np.int64]  # [L] item row of each action, -1 at other tokens and where it is unknown
    shown: NDArray[np.int64]  # [L] item row of each impression, -1 likewise
    keys: NDArray[np.uint64]  # [V] id of every item
    born_ms: NDArray[np.int64]  # [V] birth of every item
    live: NDArray[np.bool_]  # [V] which items are not withdrawn
    catalogue: Catalogue  # as it is when the micro-batch is taken in

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, where: slice | NDArray[np.intp]) -> "Questions":
        """Return some of the questions, about the same batch and vocabulary."""
        columns = ("targets", "items", "request_ms", "target_born_ms", "users", "possible", "starts", "queries")
        return replace(self, **{name: getattr(self, name)[where] for name in columns})

    def candidates(self) -> NDArray[np.bool_]:
        """Return which items could be recommended to whom, [T, V]."""
        found_TV: NDArray[np.bool_] = self.live & (self.born_ms < self.request_ms[:, None])
        return found_TV

    def are_candidates(self, question_n: NDArray[np.int64], row_n: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each item could be recommended in its question, [n]."""
        found_n: NDArray[np.bool_] = self.live[row_n] & (self.born_ms[row_n] < self.request_ms[question_n])
        return found_n

    def features(self, row: int) -> Features:
        """Return the catalogue's features of an item by its row; {} where it has none or the item is withdrawn."""
        item = self.catalogue.get(int(self.keys[row]))
        return {} if item is None else item.features

    def ranks(
        self, higher_T: NDArray[np.int64], equal_T: NDArray[np.int64], scored_T: NDArray[np.bool_] | bool = True
    ) -> NDArray[np.float64]:
        """Return each target's rank, 1 the best, [T]; equal scores share their mean rank.

        Args:
            higher_T: Number of candidates that score higher than the target.
            equal_T: Number of candidates with the target's score, itself among them.
            scored_T: Whether the target has a score; without one, or where it is no candidate, it is a miss, rank inf.
        """
        return np.where(self.possible & scored_T, 1 + higher_T + (equal_T - 1) / 2, np.inf)


def exclude_seen(questions: Questions) -> tuple[Questions, NDArray[np.int64], NDArray[np.int64]]:
    """Return the questions with targets of the user's own history impossible, and the pairs of those histories.

    A pair is a question and the row of an item in its history, [n] each, repeated where the item is.
    """
    question_n, token_n = ranges(questions.starts, np.maximum(questions.queries - questions.starts + 1, 0))
    row_n = questions.rows[token_n]
    question_n, row_n = question_n[row_n >= 0], row_n[row_n >= 0]
    possible_T = questions.possible.copy()
    possible_T[question_n[row_n == questions.targets[question_n]]] = False
    return replace(questions, possible=possible_T), question_n, row_n


def best_rows(scores_TV: NDArray[np.float64], questions: Questions, k: int) -> NDArray[np.int64]:
    """Return the rows of the k best candidates of each question, [T, k], ties by row; -1 where there are fewer."""
    scores_TV = np.where(questions.candidates(), scores_TV, -np.inf)
    best_Tk = np.argsort(-scores_TV, axis=1, kind="stable")[:, :k]
    best_Tk = np.where(np.take_along_axis(scores_TV, best_Tk, 1) > -np.inf, best_Tk, -1)
    return np.pad(best_Tk, ((0, 0), (0, k - best_Tk.shape[1])), constant_values=-1)
