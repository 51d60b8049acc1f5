"""BST, Behavior Sequence Transformer (Chen et al., 2019, arXiv 1905.06874): the candidate as the sequence's last item.

N candidates, K = 20 behaviours, S = K + 1, D width, H heads. With S rows of behaviours and the candidate, each with the
embedding of its age at the request (the paper's positions are these times)

    x = [e_1 .. e_K, c] + age embedding
    s = LN(x + MultiHead(x))                    self-attention that masks padding only
    f = LN(s + W_2 LeakyReLU(W_1 s))
    logits = MLP([f_1 .. f_S, profile])         all S outputs side by side, (S + 1) D -> 256 -> 64 -> A

Changed for one pass: ages are added, in D dimensions, where the paper concatenates positions; one layer, as in its
best result; no dropout, since one pass serves the test and the loss; a smaller MLP. Outputs stand by recency, the last
behaviour first, so that a place means the same for histories of any length.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import AGES, Weights, age_bucket, masked_softmax


class Ranker(RankingModel):
    """One Transformer layer and the MLP."""

    behaviours = 20

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.ages = weights.matrix(AGES, dim)
        self.w_qkv, self.w_out = weights.linear(dim, 3 * dim, bias=False), weights.linear(dim, dim, bias=False)
        self.w_1, self.w_2 = weights.linear(dim, 4 * dim), weights.linear(4 * dim, dim)
        self.norm_1, self.norm_2 = weights.norm(dim), weights.norm(dim)
        self.mlp = weights.mlp((self.behaviours + 2) * dim, 256, 64, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        x_NSD, there_NS = self.sequence(history, candidates)
        s_NSD = self.norm_1(x_NSD + self._attend(x_NSD, there_NS))
        f_NSD = self.norm_2(s_NSD + self.w_2(leaky_relu(self.w_1(s_NSD)))) * there_NS[..., None]
        missing = (self.behaviours + 1 - f_NSD.shape[1]) * self.dim
        flat = torch.nn.functional.pad(f_NSD.flatten(1), (0, missing))
        logits_NA: Tensor = self.mlp(torch.cat((flat, history.profile[candidates.request]), -1))
        return logits_NA

    def sequence(self, history: Histories, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Return the candidate, then the behaviours, the last first, [N, S, D], and which are there, [N, S]."""
        k = torch.arange(history.there.shape[1], device=history.there.device)
        back_RK = (history.there.sum(1, keepdim=True) - 1 - k).clamp(min=0)
        e_RKD = history.behaviours + self.ages[age_bucket(history.ages)]
        e_RKD = e_RKD.gather(1, back_RK[..., None].expand_as(e_RKD))
        c_N1D = (candidates.rows + self.ages[0])[:, None]
        there_NK = history.there[candidates.request]
        x_NSD = torch.cat((c_N1D, e_RKD[candidates.request]), 1)
        return x_NSD, torch.cat((torch.ones_like(there_NK[:, :1]), there_NK), 1)

    def _attend(self, x_NSD: Tensor, there_NS: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.w_qkv(x_NSD).chunk(3, -1))
        weights = masked_softmax(q @ k.mT / math.sqrt(q.shape[-1]), there_NS[:, None, None])
        out_NSD: Tensor = self.w_out((weights @ v).transpose(1, 2).flatten(2))
        return out_NSD
