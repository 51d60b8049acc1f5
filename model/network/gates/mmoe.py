"""MMoE, Multi-gate Mixture-of-Experts (Ma et al., 2018, KDD): shared experts, mixed anew for each action.

N candidates, A actions, X = 4 experts, D width. With x the fields of the candidate and its user side by side

    f_x = MLP_x(x)                              F D -> 2 D -> D, ReLU at the end
    g_a = softmax(W_a x)                        over the experts
    logit_a = MLP_a(sum over x of g_ax f_x)     D -> D -> 1

Changed for one pass: nothing. Its fields are the candidate, the mean of the behaviours, the last one, and attribute
values; actions that never happen in a log have a tower all the same.
"""

import torch
from torch import Tensor
from torch.nn.functional import relu

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import FIELDS, Weights, fields

_EXPERTS = 4


class Ranker(RankingModel):
    """Experts, gates and towers, the weights of each stacked."""

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim, inner = self.dim, FIELDS * self.dim
        self.w_1, self.b_1 = weights.matrix(_EXPERTS, inner, 2 * dim), weights.zeros(_EXPERTS, 1, 2 * dim)
        self.w_2, self.b_2 = weights.matrix(_EXPERTS, 2 * dim, dim), weights.zeros(_EXPERTS, 1, dim)
        self.gates = weights.matrix(self.actions, inner, _EXPERTS)
        self.t_1, self.c_1 = weights.matrix(self.actions, dim, dim), weights.zeros(self.actions, 1, dim)
        self.t_2, self.c_2 = weights.matrix(self.actions, dim, 1), weights.zeros(self.actions, 1, 1)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        x_NI = fields(history, candidates).flatten(1)
        hidden_XNE = relu(x_NI @ self.w_1 + self.b_1)
        expert_XND = relu(hidden_XNE @ self.w_2 + self.b_2)
        gate_ANX = (x_NI @ self.gates).softmax(-1)
        mixed_AND = torch.einsum("anx,xnd->and", gate_ANX, expert_XND)
        return (relu(mixed_AND @ self.t_1 + self.c_1) @ self.t_2 + self.c_2).squeeze(-1).T
