"""DIN, Deep Interest Network (Zhou et al., 2018, arXiv 1706.06978): behaviours weighted by the candidate.

N candidates, K behaviours, D width. With c the candidate and e_k the behaviours

    a_k = MLP([e_k, c, e_k - c, e_k * c])       the activation unit, 4 D -> 36 -> 1, no softmax over k
    u = sum over k of a_k e_k
    logits = MLP([u, c, profile])               3 D -> 200 -> 80 -> A

Changed for one pass: PReLU in place of Dice, whose statistics of the batch would let one answer depend on the others
of its micro-batch; one MLP has a logit for each action; mini-batch aware regularisation is left out, since the
optimizer decays a row only when it is touched, which is what it is for.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import Weights

_UNIT, _HIDDEN = 36, (200, 80)


class Ranker(RankingModel):
    """The activation unit and the MLP."""

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        self.unit_in, self.unit_out = weights.linear(4 * self.dim, _UNIT), weights.linear(_UNIT, 1)
        self.slopes = nn.ParameterList(_quarters(weights, width) for width in (_UNIT, *_HIDDEN))
        widths = (3 * self.dim, *_HIDDEN, self.actions)
        self.layers = nn.ModuleList(weights.linear(a, b) for a, b in pairwise(widths))

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        interest_ND = self.interest(history, candidates)
        x = torch.cat((interest_ND, candidates.rows, history.profile[candidates.request]), -1)
        for layer, slope in zip(self.layers, self.slopes[1:], strict=False):
            x = _prelu(layer(x), slope)
        logits_NA: Tensor = self.layers[-1](x)
        return logits_NA

    def interest(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the user's interest in each candidate, [N, D]."""
        e_NKD = history.behaviours[candidates.request]
        c_NKD = candidates.rows[:, None].expand_as(e_NKD)
        hidden = self.unit_in(torch.cat((e_NKD, c_NKD, e_NKD - c_NKD, e_NKD * c_NKD), -1))
        weight_NK = self.unit_out(_prelu(hidden, self.slopes[0])).squeeze(-1) * history.there[candidates.request]
        interest_ND: Tensor = (weight_NK[:, None] @ e_NKD).squeeze(1)
        return interest_ND


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def _quarters(weights: Weights, width: int) -> nn.Parameter:
    """Return PReLU's slopes, which begin at 1/4."""
    return nn.Parameter(weights.zeros(width).data + 0.25)
