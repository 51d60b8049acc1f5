"""DLRM, Deep Learning Recommendation Model (Naumov et al., 2019, arXiv 1906.00091): products of all pairs of features.

N candidates, F sparse features, D width.

    z_0 = MLP_bottom(dense)                     3 -> D -> D
    z_1 .. z_F = rows of the sparse features: candidate, mean of the behaviours, the last one, attribute values
    logits = MLP_top([z_0, z_i · z_j / sqrt(D) for i < j])      D + F (F + 1) / 2 -> 2 D -> D -> A

Dense features are logarithms of the number of behaviours, and of the ages of the last and of the first one in seconds.
Changed for one pass: products are over sqrt(D), since rows are scaled by it here; a multi-hot feature is pooled by the
mean, not the sum, so that long histories are not louder.
Counts of the item, which a log would bring as dense features, are left to the regression over counts.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import relu

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import FIELDS, Weights, fields


class Ranker(RankingModel):
    """The bottom and the top MLP."""

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.bottom = weights.mlp(3, dim, dim)
        self.top = weights.mlp(dim + FIELDS * (FIELDS + 1) // 2, 2 * dim, dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        dense_ND = relu(self.bottom(dense(history)))[candidates.request]
        z_NFD = torch.cat((dense_ND[:, None], fields(history, candidates)), 1)
        i, j = torch.triu_indices(FIELDS + 1, FIELDS + 1, 1, device=z_NFD.device)
        products = (z_NFD @ z_NFD.mT / math.sqrt(self.dim))[:, i, j]
        logits_NA: Tensor = self.top(torch.cat((dense_ND, products), -1))
        return logits_NA


def dense(history: Histories) -> Tensor:
    """Return the dense features of each request, [R, 3]."""
    count_R = history.there.sum(1)
    last_R1 = history.ages.gather(1, (count_R - 1).clamp(min=0)[:, None])
    columns = (count_R[:, None].to(last_R1.dtype), last_R1, history.ages[:, :1])
    return torch.cat(columns, 1).log1p()
