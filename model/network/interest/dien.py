"""DIEN, Deep Interest Evolution Network (Zhou et al., 2019, arXiv 1809.03672): interest that evolves to the candidate.

R requests, N candidates, K = 20 behaviours, D width.

    h_1 .. h_K = GRU(e_1 .. e_K)                        interest extractor
    a_k = softmax_k(h_k · W c)
    g_k = AUGRU: a GRU over h_k whose update gate is a_k z_k        interest evolution
    logits = MLP([g_K, c, profile])

Its auxiliary loss makes h_k predict the next behaviour: -log sigmoid(h_k · e_k+1) - log(1 - sigmoid(h_k · n_k+1)), the
mean over k, weight 1, the products over sqrt(D). Changed for one pass: n_k+1 is not drawn from all items, but the last
item that was shown before behaviour k+1 and is another one: an impression without a click says more than a random item.
A step without one has the first term alone. Gates: z near 1 takes the new state here, as in the paper.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import Weights, masked_softmax


class Ranker(RankingModel):
    """The extractor, the evolution and the MLP."""

    behaviours = 20

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.extractor = weights.gru(dim)
        self.w_attention = weights.linear(dim, dim, bias=False)
        self.x_gates, self.h_gates = weights.linear(dim, 3 * dim), weights.linear(dim, 3 * dim, bias=False)
        self.mlp = weights.mlp(3 * dim, 2 * dim, dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        request_N, there_NK = candidates.request, history.there[candidates.request]
        h_RKD = self.extractor(history.behaviours)[0]
        score_NK = (h_RKD[request_N] @ self.w_attention(candidates.rows)[..., None]).squeeze(-1)
        weight_NK = masked_softmax(score_NK, there_NK)
        x_KNE = self.x_gates(h_RKD).transpose(0, 1)[:, request_N]
        g_ND = torch.zeros_like(candidates.rows)
        for k, x_NE in enumerate(x_KNE.unbind(0)):  # padding has weight 0, which keeps the state
            g_ND = self._evolve(x_NE, g_ND, weight_NK[:, k, None])
        logits_NA: Tensor = self.mlp(torch.cat((g_ND, candidates.rows, history.profile[request_N]), -1))
        return logits_NA

    def _evolve(self, x_NE: Tensor, g_ND: Tensor, weight_N1: Tensor) -> Tensor:
        """Return the state after one step of AUGRU."""
        (x_r, x_z, x_n), (g_r, g_z, g_n) = x_NE.chunk(3, -1), self.h_gates(g_ND).chunk(3, -1)
        z = weight_N1 * (x_z + g_z).sigmoid()
        new_ND: Tensor = (1 - z) * g_ND + z * (x_n + (x_r + g_r).sigmoid() * g_n).tanh()
        return new_ND

    def auxiliary_loss(self, history: Histories, candidates: Candidates, labels_NA: Tensor) -> Tensor:
        """Return how badly each interest predicts the next behaviour, a mean over steps; 0 without any."""
        h_RKD = self.extractor(history.behaviours)[0][:, :-1]
        there_RK, skipped_RK = history.there[:, 1:], history.was_skipped[:, 1:]
        clicked, skipped = (
            (h_RKD * x_RKD[:, 1:]).sum(-1) / math.sqrt(self.dim) for x_RKD in (history.behaviours, history.skipped)
        )
        total = -(logsigmoid(clicked) * there_RK).sum() - (logsigmoid(-skipped) * skipped_RK).sum()
        return total / there_RK.sum().clamp(min=1)
