"""Attention of a candidate over behaviours, and the search of those that are attended to.

N candidates, K behaviours, S found behaviours, D width, H heads of d.
"""

import math

import torch
from torch import Tensor, nn

from model.network.ranking.layers import Weights, masked_softmax


class TargetAttention(nn.Module):
    """Multi-head attention, the candidate as its only query; softmax(q·k / sqrt(d)) over the behaviours there."""

    def __init__(self, dim: int, heads: int, weights: Weights) -> None:
        super().__init__()
        self.heads = heads
        self.w_q, self.w_k, self.w_v = (weights.linear(dim, dim, bias=False) for _ in range(3))

    def forward(self, rows_ND: Tensor, z_NSD: Tensor, there_NS: Tensor) -> Tensor:
        """Return the heads' means of the values, side by side, [N, D]; zeros where no behaviour is there."""
        q_NH1d = self.w_q(rows_ND)[:, None].unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k_NHSd, v_NHSd = (w(z_NSD).unflatten(-1, (self.heads, -1)).transpose(1, 2) for w in (self.w_k, self.w_v))
        weight_NH1S = masked_softmax(q_NH1d @ k_NHSd.mT / math.sqrt(q_NH1d.shape[-1]), there_NS[:, None, None])
        heads_ND: Tensor = (weight_NH1S @ v_NHSd).flatten(1)
        return heads_ND


def found(score_NK: Tensor, there_NK: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the behaviours of the best scores, and whether there is one, [N, S] each; of equal scores the older ones.

    The search itself has no gradient. Leading dimensions beside N are kept.
    """
    score_NK = torch.where(there_NK, score_NK.detach(), -torch.inf)
    at_NS = score_NK.sort(dim=-1, descending=True, stable=True).indices[..., :most]
    return at_NS, there_NK.expand_as(score_NK).gather(-1, at_NS)


def taken(x_NKD: Tensor, at_NS: Tensor) -> Tensor:
    """Return the rows of the found behaviours, [N, S, D]."""
    return x_NKD.gather(1, at_NS[..., None].expand(*at_NS.shape, x_NKD.shape[-1]))
