"""ETA, End-to-end Target Attention (Chen et al., 2021, arXiv 2108.04468): search by hashes of the current embeddings.

N candidates, K behaviours, S = 20 found ones, D width, m = 32 bits. With a fixed random matrix H

    h(x) = sign(H x)                            SimHash, m bits
    found = the S behaviours of the least Hamming distance between h(e_k) and h(c), of equal ones the latest
    u = multi-head attention of c over the found e_s
    logits = MLP([u, c, profile])

The search follows the embeddings as they learn, so that it needs no loss and no index of its own. Changed for one
pass: nothing in the search; the part for the last behaviours is left out.
"""

import torch
from torch import Tensor

from model.network.long_history.sim_soft import FOUND, profile
from model.network.ranking.attention import TargetAttention, found, taken
from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import Weights

_BITS, _PLACES = 32, 1 << 16


class Ranker(RankingModel):
    """The hash, the attention and the MLP."""

    behaviours = 0
    hashes: Tensor

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        self.register_buffer("hashes", weights.normal(self.dim, _BITS))
        self.attention = TargetAttention(self.dim, self.heads, weights)
        self.mlp = weights.mlp(3 * self.dim, 2 * self.dim, self.dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        e_NKD = history.behaviours[candidates.request]
        with torch.no_grad():
            bits_NKm = (history.behaviours @ self.hashes > 0)[candidates.request]
            bits_Nm = candidates.rows @ self.hashes > 0
            distance_NK = (bits_NKm != bits_Nm[:, None]).sum(-1)
            score_NK = torch.arange(e_NKD.shape[1], device=e_NKD.device) - _PLACES * distance_NK
        score_NK = score_NK.to(torch.float64)  # whole numbers: exact
        at_NS, there_NS = found(score_NK, history.there[candidates.request], FOUND)
        u_ND = self.attention(candidates.rows, taken(e_NKD, at_NS), there_NS)
        logits_NA: Tensor = self.mlp(torch.cat((u_ND, candidates.rows, profile(history, candidates)), -1))
        return logits_NA
