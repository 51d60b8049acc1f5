"""PPNet, Parameter Personalised Net (Chang et al., 2023, PEPNet, arXiv 2302.01115): gates of who on every layer.

N candidates, D width. With x the fields of the candidate and its user side by side, and a prior p = [user, candidate]

    d_l = 2 sigmoid(W'_l relu(W_l [p, stop(x)]))        the gate unit, one for each layer; no gradient reaches x by it
    h_l+1 = d_l * relu(V_l h_l + b_l)                   h_0 = x, F D -> 2 D -> D
    logits = W h + b

Changed for one pass: the user in p is the mean of the behaviours plus the attribute values, where the paper has rows of
users and authors; one network has all actions. EPNet, its gates by domain, has no counterpart: a log has one domain.
"""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import relu

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import FIELDS, Weights, fields


class Ranker(RankingModel):
    """The layers and their gates."""

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        widths = (FIELDS * dim, 2 * dim, dim)
        self.layers = torch.nn.ModuleList(weights.linear(a, b) for a, b in pairwise(widths))
        self.gates = torch.nn.ModuleList(weights.mlp((FIELDS + 2) * dim, dim, width) for width in widths[1:])
        self.out = weights.linear(dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        e_NFD = fields(history, candidates)
        candidate_ND, mean_ND, _, profile_ND = e_NFD.unbind(1)
        h = e_NFD.flatten(1)
        prior = torch.cat((mean_ND + profile_ND, candidate_ND, h.detach()), -1)
        for layer, gate in zip(self.layers, self.gates, strict=True):
            h = 2 * gate(prior).sigmoid() * relu(layer(h))
        logits_NA: Tensor = self.out(h)
        return logits_NA
