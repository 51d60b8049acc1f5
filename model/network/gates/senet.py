"""SENet gates of FiBiNET (Huang et al., 2019, arXiv 1905.09433): fields weighed by what all of them are.

N candidates, F fields, D width. With e_1 .. e_F the fields (candidate, mean of the behaviours, last one, attributes)

    z_i = mean of e_i                           squeeze
    a = relu(W_2 relu(W_1 z))                   excite, F -> F / 2 -> F
    v_i = a_i e_i
    p_ij = (W_i e_i) * e_j, q_ij = (V_i v_i) * v_j, i < j       bilinear products, of the fields and of the weighed ones
    logits = MLP([p, q])                        F (F - 1) D -> 2 D -> D -> A

Changed for one pass: W_2 has a bias that begins at 1, so that the gates begin open: a gate of ReLU that begins shut
learns nothing, and there are no further epochs to open it.
"""

import torch
from torch import Tensor
from torch.nn.functional import relu

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import FIELDS, Weights, fields


class Ranker(RankingModel):
    """The gates, the products and the MLP."""

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.squeezed = weights.linear(FIELDS, FIELDS // 2, bias=False)
        self.excited = weights.linear(FIELDS // 2, FIELDS)
        torch.nn.init.ones_(self.excited.bias)
        self.w_fields, self.w_gated = (weights.matrix(FIELDS - 1, dim, dim) for _ in range(2))
        self.mlp = weights.mlp(FIELDS * (FIELDS - 1) * dim, 2 * dim, dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        e_NFD = fields(history, candidates)
        gate_NF = relu(self.excited(relu(self.squeezed(e_NFD.mean(-1)))))
        products = (_bilinear(e_NFD, self.w_fields), _bilinear(e_NFD * gate_NF[..., None], self.w_gated))
        logits_NA: Tensor = self.mlp(torch.cat(products, 1).flatten(1))
        return logits_NA


def _bilinear(x_NFD: Tensor, w_FDD: Tensor) -> Tensor:
    """Return the products of all pairs of fields, the first of each pair mapped, [N, F (F - 1) / 2, D]."""
    i, j = torch.triu_indices(FIELDS, FIELDS, 1, device=x_NFD.device)
    mapped_NFD = (x_NFD[:, :-1, None] @ w_FDD).squeeze(2)
    return mapped_NFD[:, i] * x_NFD[:, j]
