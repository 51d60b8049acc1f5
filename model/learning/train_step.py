"""One forward pass over a micro-batch, whose outputs are tested and then learnt from.

L = tokens, P = retrieval targets, N = ranking targets, K = negatives, U = distinct rows that the micro-batch touches,
A = actions with a tower, D = width. The rows of both tables are gathered once into one matrix [U + 1, D], which ends
with a row of zeros: the action of a token that has none. Their gradients come back to the two gathered leaves.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.entity_index import TokenRows
from model.data.labels import Targets, accidental_hits
from model.data.micro_batch import Jagged
from model.errors import ModelError
from model.learning.negatives import Negatives
from model.network import ranking_head
from model.network.retrieval_loss import sampled_softmax
from model.optim.embedding_table import EmbeddingTable
from model.optim.parameters import Parameters


@dataclass(frozen=True, slots=True, eq=False)
class _Gathered:
    """Distinct rows of one table, taken out as a leaf of the graph."""

    table: EmbeddingTable
    rows: Tensor  # [U]
    leaf: Tensor  # [U, D]

    def step(self, lr: float) -> None:
        if self.leaf.grad is not None:
            self.table.step(self.rows, self.leaf.grad, lr)


class Forward:
    """The pass; `queries_PD` and `logits_NA` are what it gave.

    Args:
        weights: as they are before this micro-batch is learnt.
        batch: the micro-batch.
        targets: what is asked about it.
        rows: its tokens' rows.
        negatives: for the retrieval loss; None where it has no target or no item is live.
    """

    def __init__(
        self, weights: Parameters, batch: Jagged, targets: Targets, rows: TokenRows, negatives: Negatives | None
    ) -> None:
        self._weights, self._targets, self._negatives = weights, targets, negatives
        self._requests_P = batch.requests[targets.positive]
        self.positives_P = rows.items[batch.positions[targets.positive]]
        drawn = negatives.rows if negatives else np.empty(0, np.int64)
        self._items, item_at = _gather(weights, weights.items, weights.slots(np.concatenate((rows.items, drawn))))
        feature_L = np.maximum(rows.attributes, rows.actions)  # at most one of them is there
        self._features, feature_at_L = _gather(weights, weights.features, feature_L)
        self._item_at_L, self._item_at_K = np.split(item_at, [len(batch.keys)])
        self._positive_at_P = self._item_at_L[batch.positions[targets.positive]]
        y_LD = self._encode(batch, rows, feature_at_L)
        recommender = weights.recommender
        self.queries_PD = recommender.queries(y_LD, weights.tensor(batch.queries[targets.positive]))
        shown_N = weights.tensor(batch.positions[targets.shown])
        self.logits_NA = recommender.rank_logits(y_LD.index_select(0, shown_N))

    def _encode(self, batch: Jagged, rows: TokenRows, feature_at_L: NDArray[np.int64]) -> Tensor:
        items, features, tensor = self._items.leaf, self._features.leaf, self._weights.tensor
        matrix = torch.cat((items, features, items.new_zeros(1, items.shape[1])))
        nothing = len(matrix) - 1
        content_L = np.where(rows.items >= 0, self._item_at_L, len(items) + feature_at_L)
        action_L = np.where(rows.actions >= 0, len(items) + feature_at_L, nothing)
        return self._weights.recommender.encode(
            matrix.index_select(0, tensor(content_L)),
            matrix.index_select(0, tensor(action_L)),
            tensor(batch.kinds),
            tensor(batch.ts_ms),
            tensor(batch.offsets),
        )

    def learn(self, rank_weight: float) -> float:
        """Take one gradient step and give the loss, NaN where there was nothing to learn from.

        Raises:
            ModelError: the loss or its gradient is not finite; nothing has moved.
        """
        losses = []
        if self._negatives and len(self.positives_P):
            losses.append(self._retrieval_loss(self._negatives))
        if self._targets.labels.size:
            labels_NA = self._weights.tensor(self._targets.labels)
            losses.append(rank_weight * ranking_head.loss(self.logits_NA, labels_NA))
        if not losses:
            return math.nan
        loss = torch.stack(losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self._refuse_divergence(value := loss.item())
        self._weights.dense.step()
        for gathered in (self._items, self._features):
            gathered.step(self._weights.lr)
        self._weights.directions.moved(self._items.rows)
        return value

    def _retrieval_loss(self, negatives: Negatives) -> Tensor:
        slots = self._weights.slots
        hit_PK = accidental_hits(slots(self.positives_P), self._requests_P, slots(negatives.rows))
        tensor, leaf = self._weights.tensor, self._items.leaf
        return sampled_softmax(
            self.queries_PD,
            leaf.index_select(0, tensor(self._positive_at_P)),
            leaf.index_select(0, tensor(self._item_at_K)),
            log_q_T=tensor(negatives.log_q(self.positives_P)).to(leaf.dtype),
            log_q_K=tensor(negatives.log_q(negatives.rows)).to(leaf.dtype),
            hit_TK=tensor(hit_PK),
            temperature=self._weights.recommender.settings.temperature,
        )

    def _refuse_divergence(self, loss: float) -> None:
        parameters = (*self._weights.recommender.parameters(), self._items.leaf, self._features.leaf)
        sums = torch.stack([parameter.grad.sum() for parameter in parameters if parameter.grad is not None])
        if not (math.isfinite(loss) and math.isfinite(sums.abs().sum().item())):
            raise ModelError(
                f"training has diverged: the loss is {loss}, and its gradient is not finite; lower "
                f"train.learning_rate (now {self._weights.lr}) and train under another --name."
            )


def _gather(weights: Parameters, table: EmbeddingTable, rows: NDArray[np.int64]) -> tuple[_Gathered, NDArray[np.int64]]:
    """Take the distinct rows out of a table, ascending, and say where each row stands among them; -1 stays -1."""
    used = np.zeros(len(table) + 1, np.bool_)  # the last one stands for -1
    used[rows] = True
    distinct = np.flatnonzero(used[:-1])
    place = np.full(len(used), -1, np.int64)
    place[distinct] = np.arange(len(distinct))
    rows_U = weights.tensor(distinct)
    return _Gathered(table, rows_U, table.gather(rows_U)), place[rows]
