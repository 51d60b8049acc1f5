"""TWIN, Two-stage Interest Network (Chang et al., 2023, arXiv 2302.02352): one attention searches and weighs.

N candidates, K behaviours, S = 20 found ones, D width, H heads of d. In both stages, head by head

    alpha_k = (W_k e_k) · (W_q c) / sqrt(d) + cross_k           the S largest are found
    head = sum over the found k of softmax(alpha)_k W_v e_k
    u = W_o [all heads]
    logits = MLP([u, c, profile])

cross_k is a bias of the features that behaviour and candidate have together: by the age of the behaviour, and by
whether it is on the same item (the paper has the author and others, each compressed to one number). Changed for one
pass: keys need no cache, as a history is short enough to be projected in each step.
"""

import math

import torch
from torch import Tensor

from model.network.long_history.sim_soft import FOUND, profile
from model.network.ranking.attention import found
from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import AGES, Weights, age_bucket, masked_softmax


class Ranker(RankingModel):
    """The attention of both stages, and the MLP."""

    behaviours = 0

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.w_q, self.w_k, self.w_v = (weights.linear(dim, dim, bias=False) for _ in range(3))
        self.w_o = weights.linear(dim, dim, bias=False)
        self.age_bias, self.same_bias = weights.zeros(AGES, self.heads), weights.zeros(self.heads)
        self.mlp = weights.mlp(3 * dim, 2 * dim, dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        request_N = candidates.request
        alpha_NHK = self._alpha(history, candidates)
        there_N1K = history.there[request_N][:, None]
        at_NHS, there_NHS = found(alpha_NHK, there_N1K, FOUND)
        weight_NHS = masked_softmax(alpha_NHK.gather(-1, at_NHS), there_NHS)
        v_NHKd = self._heads(self.w_v(history.behaviours))[request_N]
        v_NHSd = v_NHKd.gather(2, at_NHS[..., None].expand(*at_NHS.shape, v_NHKd.shape[-1]))
        u_ND = self.w_o((weight_NHS[:, :, None] @ v_NHSd).flatten(1))
        logits_NA: Tensor = self.mlp(torch.cat((u_ND, candidates.rows, profile(history, candidates)), -1))
        return logits_NA

    def _alpha(self, history: Histories, candidates: Candidates) -> Tensor:
        request_N = candidates.request
        q_NHd1 = self.w_q(candidates.rows).unflatten(-1, (self.heads, -1))[..., None]
        k_NHKd = self._heads(self.w_k(history.behaviours))[request_N]
        items_NK = history.items[request_N]
        same_NK = (items_NK == candidates.items[:, None]) & (items_NK >= 0)  # items without a row are not one
        ages_NHK = self.age_bias[age_bucket(history.ages)].mT[request_N]
        cross_NHK = ages_NHK + same_NK[:, None] * self.same_bias[:, None]
        alpha_NHK: Tensor = (k_NHKd @ q_NHd1).squeeze(-1) / math.sqrt(q_NHd1.shape[-2]) + cross_NHK
        return alpha_NHK

    def _heads(self, x_RKD: Tensor) -> Tensor:
        return x_RKD.view(*x_RKD.shape[:2], self.heads, self.dim // self.heads).transpose(1, 2)
