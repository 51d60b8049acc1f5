"""The model's ranking of the whole catalogue: every candidate is scored by its cosine with the query.

P = retrieval targets, V = items known before the micro-batch, D = width. Of several ranks each scores its own items,
and all get all scores.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.candidates import Questions, exclude_seen
from model.evaluation.ranks import ranks
from model.optim.parameters import Parameters

_SCORES: Final = 1 << 25  # scores held at once, 128 MiB


class Ranker:
    """Ranks targets among all candidates.

    Args:
        weights: The parameters, read at every call.
        exclude_seen: Whether items of the user's own history are no candidates.
    """

    def __init__(self, weights: Parameters, *, exclude_seen: bool) -> None:
        self._weights, self._exclude_seen = weights, exclude_seen
        self._buffer = torch.empty(0, device=weights.device)  # kept: fresh pages cost as much as the scoring

    @torch.no_grad()
    def ranks(self, queries_PD: Tensor, questions: Questions) -> NDArray[np.float64]:
        """Return the rank of each question's target, inf for a miss, [P]."""
        items_VD = self._weights.unit_items(len(questions.born_ms))
        size = max(1, _SCORES // max(1, len(questions.born_ms)))
        parts = [slice(start, start + size) for start in range(0, len(questions), size)]
        found = [self._ranks(queries_PD[part], items_VD, questions.part(part)) for part in parts]
        return np.concatenate([np.empty(0), *found])

    def _ranks(self, queries_PD: Tensor, items_VD: Tensor, questions: Questions) -> NDArray[np.float64]:
        scores_PV = self._weights.ranks.columns(self._scores(queries_PD, items_VD), len(questions.born_ms))
        if self._exclude_seen:
            questions, question_n, row_n = exclude_seen(questions)
            scores_PV[self._weights.tensor(question_n), self._weights.tensor(row_n)] = -torch.inf
        return ranks(scores_PV, questions)

    @torch.no_grad()
    def cosines(self, queries_PD: Tensor, items: int) -> Tensor:
        """Return the cosine of each query with each of the first items, [P, V]; none is excluded."""
        return self._weights.ranks.columns(queries_PD.detach() @ self._weights.unit_items(items).T, items)

    def _scores(self, queries_PD: Tensor, items_VD: Tensor) -> Tensor:
        """Return the cosines, [P, V], in the buffer: they hold until the next call."""
        count = len(queries_PD) * len(items_VD)
        if len(self._buffer) < count:
            self._buffer = self._buffer.new_empty(count + count // 4)
        return torch.mm(queries_PD, items_VD.T, out=self._buffer[:count].view(len(queries_PD), len(items_VD)))
