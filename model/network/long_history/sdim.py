"""SDIM, Sampling-based Deep Interest Modeling (Cao et al., 2022, arXiv 2205.10249): attention by colliding hashes.

N candidates, K behaviours, D width, G = 16 signatures of t = 3 bits each. With fixed random matrices H_g

    sig_g(x) = the t bits of sign(H_g x)
    u = 1/G sum over g of l2norm(sum of the e_k with sig_g(e_k) = sig_g(c))
    logits = MLP([u, c, profile])

The share of signatures in which two vectors collide falls with the angle between them, as a softmax over products does.
Signatures of behaviours do not depend on the candidate. Changed for one pass: nothing; u is scaled by sqrt(D), as the
rows beside it are.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from model.network.long_history.sim_soft import profile
from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import Weights

_SIGNATURES, _BITS = 16, 3


class Ranker(RankingModel):
    """The hashes and the MLP."""

    behaviours = 0
    hashes: Tensor

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        self.register_buffer("hashes", weights.normal(self.dim, _SIGNATURES * _BITS))
        self.mlp = weights.mlp(3 * self.dim, 2 * self.dim, self.dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        request_N = candidates.request
        own_NG, of_RKG = self._signatures(candidates.rows), self._signatures(history.behaviours)
        collides_NKG = (of_RKG[request_N] == own_NG[:, None]) & history.there[request_N][..., None]
        sum_NGD = collides_NKG.mT.to(candidates.rows.dtype) @ history.behaviours[request_N]
        u_ND = normalize(sum_NGD, dim=-1).mean(1) * math.sqrt(self.dim)
        logits_NA: Tensor = self.mlp(torch.cat((u_ND, candidates.rows, profile(history, candidates)), -1))
        return logits_NA

    @torch.no_grad()
    def _signatures(self, x: Tensor) -> Tensor:
        """Return the signatures as numbers from 0 to 7, [..., G]."""
        bits = (x @ self.hashes > 0).view(*x.shape[:-1], _SIGNATURES, _BITS)
        numbers: Tensor = (bits * (1 << torch.arange(_BITS, device=x.device))).sum(-1)
        return numbers
