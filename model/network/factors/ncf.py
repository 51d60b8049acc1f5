"""NCF, Neural Collaborative Filtering (He et al., 2017, arXiv 1708.05031): its fusion of two parts, NeuMF.

N candidates, D width. With u the user and c the candidate, and their own maps for each part, as the paper has own
embeddings for each

    gmf = (G_u u) * (G_c c)                     generalised matrix factorisation
    mlp = MLP([M_u u, M_c c])                   2 D -> 2 D -> D -> D, ReLU after each
    logits = W [gmf, mlp] + b

Changed for one pass: a user has no row, but is the mean of the behaviours, as in FISM (Kabbur et al., 2013), plus the
attribute values: rows of users would grow without bound, and be untrained for who is new. No pre-training of the parts.
"""

import torch
from torch import Tensor
from torch.nn.functional import relu

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import Weights, mean_behaviour


class Ranker(RankingModel):
    """Both parts of NeuMF."""

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.g_user, self.g_item, self.m_user, self.m_item = (weights.linear(dim, dim, bias=False) for _ in range(4))
        self.mlp = weights.mlp(2 * dim, 2 * dim, dim, dim)
        self.out = weights.linear(2 * dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        user_ND = (mean_behaviour(history) + history.profile)[candidates.request]
        gmf_ND = self.g_user(user_ND) * self.g_item(candidates.rows)
        mlp_ND = relu(self.mlp(torch.cat((self.m_user(user_ND), self.m_item(candidates.rows)), -1)))
        logits_NA: Tensor = self.out(torch.cat((gmf_ND, mlp_ND), -1))
        return logits_NA
