"""SIM, Search-based Interest Model (Pi et al., 2020, arXiv 2006.05639), hard search: behaviours of its kind.

N candidates, K behaviours, S = 20 found ones, D width. The general search unit looks up, and learns nothing:

    found = the last S behaviours k with kind(k) = kind(c)
    u = multi-head attention of c over [e_s + age embedding]    the exact search unit, as in sim_soft.py
    logits = MLP([u, mean of all behaviours, c, profile])

Changed for one pass: the kind is the item itself, since the catalogue's categories are no part of a micro-batch: what
the user did with this very item. So the mean of all behaviours stands beside u, which is 0 for an item that is new to
the user; the paper has DIEN over the last ones there.
"""

import torch
from torch import Tensor

from model.network.long_history.sim_soft import FOUND, profile
from model.network.ranking.attention import TargetAttention, found, taken
from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import AGES, Weights, age_bucket, mean_behaviour


class Ranker(RankingModel):
    """The exact search unit and the MLP."""

    behaviours = 0

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.ages = weights.matrix(AGES, dim)
        self.attention = TargetAttention(dim, self.heads, weights)
        self.mlp = weights.mlp(4 * dim, 2 * dim, dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        items_NK, request_N = history.items[candidates.request], candidates.request
        alike_NK = (items_NK == candidates.items[:, None]) & (items_NK >= 0)
        recency_K = torch.arange(items_NK.shape[1], device=items_NK.device, dtype=candidates.rows.dtype)
        at_NS, there_NS = found(recency_K.expand(items_NK.shape), alike_NK, FOUND)
        z_RKD = history.behaviours + self.ages[age_bucket(history.ages)]
        u_ND = self.attention(candidates.rows, taken(z_RKD[request_N], at_NS), there_NS)
        parts = (u_ND, mean_behaviour(history)[request_N], candidates.rows, profile(history, candidates))
        logits_NA: Tensor = self.mlp(torch.cat(parts, -1))
        return logits_NA
