"""SIM, Search-based Interest Model (Pi et al., 2020, arXiv 2006.05639), soft search: behaviours near the candidate.

N candidates, K behaviours, S = 20 found ones, D width, H heads. A general search (GSU), then an exact one (ESU):

    r_k = (W_b e_k) · (W_a c)                                   all k; the S largest are found
    z_s = [e_s, age embedding]                                  of the found ones
    head_h = sum over s of softmax_s(W_bh z_s · W_ah c) z_s     u = all heads side by side
    logits = MLP([u, c, profile])

The search is learnt by a loss of its own, of logits_gsu = MLP([sum over k of r_k e_k, c]), added with weight 1.
Changed for one pass: ages are added, not concatenated, and products are over sqrt(D), sqrt(d), with which the softmax
is not saturated by rows scaled with sqrt(D); values have a map for each head. The part for short histories, DIEN, is
left out: it is a model of its own here.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from model.network.ranking.attention import TargetAttention, found, taken
from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import AGES, Weights, age_bucket

FOUND = 20


class Ranker(RankingModel):
    """Both units and their MLPs."""

    behaviours = 0

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.ages = weights.matrix(AGES, dim)
        self.attention = TargetAttention(dim, self.heads, weights)
        self.mlp = weights.mlp(3 * dim, 2 * dim, dim, self.actions)
        self.w_a, self.w_b = (weights.linear(dim, dim, bias=False) for _ in range(2))
        self.gsu_mlp = weights.mlp(2 * dim, dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits of the exact search unit, [N, A]."""
        there_NK = history.there[candidates.request]
        at_NS, there_NS = found(self._relevance(history, candidates), there_NK, FOUND)
        z_RKD = history.behaviours + self.ages[age_bucket(history.ages)]
        u_ND = self.attention(candidates.rows, taken(z_RKD[candidates.request], at_NS), there_NS)
        logits_NA: Tensor = self.mlp(torch.cat((u_ND, candidates.rows, profile(history, candidates)), -1))
        return logits_NA

    def _relevance(self, history: Histories, candidates: Candidates) -> Tensor:
        b_NKD, a_ND = self.w_b(history.behaviours)[candidates.request], self.w_a(candidates.rows)
        r_NK: Tensor = (b_NKD @ a_ND[..., None]).squeeze(-1) / math.sqrt(self.dim)
        return r_NK

    def auxiliary_loss(self, history: Histories, candidates: Candidates, labels_NA: Tensor) -> Tensor:
        """Return the cross-entropy of the general search unit, a mean over candidates and a sum over actions."""
        r_NK = self._relevance(history, candidates)
        u_ND = (r_NK[:, None] @ history.behaviours[candidates.request]).squeeze(1)
        logits_NA = self.gsu_mlp(torch.cat((u_ND, candidates.rows), -1))
        loss = binary_cross_entropy_with_logits(logits_NA, labels_NA.to(logits_NA.dtype), reduction="sum")
        return loss / max(1, len(logits_NA))


def profile(history: Histories, candidates: Candidates) -> Tensor:
    """Return the attribute values of each candidate's user, [N, D]."""
    return history.profile[candidates.request]
