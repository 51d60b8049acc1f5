"""The model's ranking of the whole catalogue: every candidate is scored by its cosine with the query.

P = retrieval targets, V = items known before the micro-batch, D = width.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.candidates import Questions, exclude_seen
from model.evaluation.ranks import ranks
from model.optim.parameters import Parameters


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
    def cosines(self, queries_PD: Tensor, items: int) -> Tensor:
        """Return the cosine of each query with each of the first items, [P, V], in memory that the next call reuses."""
        items_VD = self._weights.unit_items(items)  # of several ranks: this one's
        count = len(queries_PD) * len(items_VD)
        if len(self._buffer) < count:
            self._buffer = self._buffer.new_empty(count + count // 4)
        own_PV = self._buffer[:count].view(len(queries_PD), len(items_VD))
        return self._weights.ranks.columns(torch.mm(queries_PD.detach(), items_VD.T, out=own_PV), items)

    def units(self, items: int) -> NDArray[np.float32]:
        """Return the unit vectors of the first items on the CPU, [V, D]."""
        own_VD = self._weights.unit_items(items)
        vectors: NDArray[np.float32] = self._weights.ranks.columns(own_VD.T, items).T.cpu().numpy()
        return np.ascontiguousarray(vectors)

    def ranks(self, cosine_PV: Tensor, questions: Questions) -> NDArray[np.float64]:
        """Return the rank of each question's target, inf for a miss, [P].

        Args:
            cosine_PV: What `cosines` has returned, for at least the items that the questions know.
            questions: The questions.
        """
        cosine_PV = cosine_PV[:, : len(questions.born_ms)]
        if not self._exclude_seen:
            return ranks(cosine_PV, questions)
        questions, question_n, row_n = exclude_seen(questions)
        at = self._weights.tensor(question_n), self._weights.tensor(row_n)
        kept_n = cosine_PV[at]
        cosine_PV[at] = -torch.inf
        found = ranks(cosine_PV, questions)
        cosine_PV[at] = kept_n
        return found
