"""Retrieval questions: which of the live items born before the request is the target? Every recommender answers these.

T = questions of one micro-batch, L = its tokens, V = rows of the item vocabulary. The candidates of a question are the
live items born before its request, as the vocabulary knows them when the questions are asked: before it admits the
micro-batch. The model and its rivals rank the same targets among the same candidates, so that their metrics compare.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.data.item_age import UNBORN
from model.data.micro_batch import Jagged
from model.data.vocabulary import Vocabulary
from stream.example import Kind


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """T questions; the columns over V are views of the vocabulary, so answer before it changes."""

    targets: NDArray[np.int64]  # [T] row of the target, -1: the vocabulary does not know it
    request_ms: NDArray[np.int64]  # [T]
    target_born_ms: NDArray[np.int64]  # [T] birth of the target, UNBORN where it is unknown
    possible: NDArray[np.bool_]  # [T] is the target itself a candidate?
    starts: NDArray[np.int64]  # [T] first token of the user's history, into L
    queries: NDArray[np.int64]  # [T] last token of it, into L; -1: no history
    rows: NDArray[np.int64]  # [L] item row of each token, -1 where it is an attribute or unknown
    born_ms: NDArray[np.int64]  # [V] birth of every item
    live: NDArray[np.bool_]  # [V] which items are not withdrawn

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, where: slice) -> "Questions":
        """Give some of the questions, about the same batch and vocabulary."""
        columns = ("targets", "request_ms", "target_born_ms", "possible", "starts", "queries")
        return replace(self, **{name: getattr(self, name)[where] for name in columns})

    def candidates(self, rows: NDArray[np.int64], request_ms: int) -> NDArray[np.bool_]:
        """Say which of these items could have been recommended at that time."""
        return self.live[rows] & (self.born_ms[rows] < request_ms)


def unseen(questions: Questions) -> tuple[Questions, NDArray[np.int64], NDArray[np.int64]]:
    """Give the questions with a target out of the user's own history as impossible; and all pairs of those histories.

    The pairs are a question and the row of an item in its history, [n] each, repeated where the item is.
    """
    length_T = np.maximum(questions.queries - questions.starts + 1, 0)
    question_n = np.repeat(np.arange(len(questions)), length_T)
    step_n = np.arange(len(question_n)) - np.repeat(np.cumsum(length_T) - length_T, length_T)
    row_n = questions.rows[questions.starts[question_n] + step_n]
    question_n, row_n = question_n[row_n >= 0], row_n[row_n >= 0]
    possible_T = questions.possible.copy()
    possible_T[question_n[row_n == questions.targets[question_n]]] = False
    return replace(questions, possible=possible_T), question_n, row_n


def ask(
    batch: Jagged, row_L: NDArray[np.int64], targets: NDArray[np.integer | np.bool_], items: Vocabulary
) -> Questions:
    """Give the questions of some of the batch's targets (indices or a mask); row_L is what `items` says of its keys."""
    row_L = np.where(batch.kinds == Kind.ATTRIBUTE, -1, row_L)
    target_T = row_L[batch.positions[targets]]
    request_ms_T = batch.request_ms[targets]
    known_T = target_T >= 0
    born_ms_T = np.full(len(target_T), UNBORN)
    born_ms_T[known_T] = items.born_ms[target_T[known_T]]
    live_V = ~items.withdrawn
    possible_T = born_ms_T < request_ms_T
    possible_T[known_T] &= live_V[target_T[known_T]]
    return Questions(
        targets=target_T,
        request_ms=request_ms_T,
        target_born_ms=born_ms_T,
        possible=possible_T,
        starts=batch.offsets[batch.owners[targets]],
        queries=batch.queries[targets],
        rows=row_L,
        born_ms=items.born_ms,
        live=live_V,
    )


def best_rows(scores_TV: NDArray[np.float64], questions: Questions, k: int) -> NDArray[np.int64]:
    """Give the rows of the k best candidates of each question, [T, k], ties by row; -1 where there are fewer."""
    candidate_TV = questions.live & (questions.born_ms < questions.request_ms[:, None])
    scores_TV = np.where(candidate_TV, scores_TV, -np.inf)
    best_Tk = np.argsort(-scores_TV, axis=1, kind="stable")[:, :k]
    best_Tk = np.where(np.take_along_axis(scores_TV, best_Tk, 1) > -np.inf, best_Tk, -1)
    return np.pad(best_Tk, ((0, 0), (0, k - best_Tk.shape[1])), constant_values=-1)
