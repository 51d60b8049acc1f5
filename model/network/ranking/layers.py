"""Layers of ranking models, drawn from one generator; attention over behaviours, some of which are padding.

N candidates, K behaviours, D width, F fields of a candidate.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from model.arrays.take_rows import take_rows
from model.network.ranking.history import Candidates, Histories

FIELDS = 4
AGES = 24  # buckets of log2 seconds: 2^23 s are three months


class Weights:
    """Draws weights of one dtype from one generator."""

    def __init__(self, dtype: torch.dtype, generator: torch.Generator) -> None:
        self._dtype, self._generator = dtype, generator

    def matrix(self, *shape: int) -> nn.Parameter:
        """Return weights, each matrix of the last two dimensions drawn by Glorot's rule."""
        matrix = nn.Parameter(torch.empty(*shape, dtype=self._dtype))
        for part in matrix.view(-1, *shape[-2:]):
            nn.init.xavier_uniform_(part, generator=self._generator)
        return matrix

    def zeros(self, *shape: int) -> nn.Parameter:
        """Return weights that begin at 0."""
        return nn.Parameter(torch.zeros(*shape, dtype=self._dtype))

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, which are not trained."""
        return torch.randn(*shape, dtype=self._dtype, generator=self._generator)

    def linear(self, inner: int, outer: int, *, bias: bool = True) -> nn.Linear:
        """Return a linear layer; its bias begins at 0."""
        layer = nn.Linear(inner, outer, bias=bias, device="meta", dtype=self._dtype).to_empty(device="cpu")
        nn.init.xavier_uniform_(layer.weight, generator=self._generator)
        if bias:
            nn.init.zeros_(layer.bias)
        return layer

    def mlp(self, *widths: int) -> nn.Sequential:
        """Return linear layers with ReLU between them."""
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            layers += [self.linear(inner, outer), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def norm(self, dim: int) -> nn.LayerNorm:
        """Return a LayerNorm that begins as the identity."""
        return nn.LayerNorm(dim, dtype=self._dtype)

    def gru(self, dim: int) -> nn.GRU:
        """Return a GRU of one layer, batch first."""
        layer = nn.GRU(dim, dim, batch_first=True, dtype=self._dtype, device="meta").to_empty(device="cpu")
        self._draw_gates(layer, 3)
        return layer

    def lstm(self, dim: int) -> nn.LSTM:
        """Return an LSTM of one layer and both directions, batch first."""
        shape = {"batch_first": True, "bidirectional": True, "device": "meta"}
        layer = nn.LSTM(dim, dim, dtype=self._dtype, **shape).to_empty(device="cpu")
        self._draw_gates(layer, 4)
        return layer

    def _draw_gates(self, layer: nn.RNNBase, gates: int) -> None:
        """Draw each gate by Glorot's rule; biases begin at 0."""
        for parameter in layer.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                for gate in parameter.chunk(gates):
                    nn.init.xavier_uniform_(gate, generator=self._generator)


def masked_softmax(scores: Tensor, there: Tensor) -> Tensor:
    """Return the softmax over the last dimension of what is there; zeros where nothing is."""
    return torch.where(there, scores, torch.finfo(scores.dtype).min).softmax(-1) * there


def mean_behaviour(history: Histories) -> Tensor:
    """Return the mean of the behaviours of each request, zeros without any, [R, D]."""
    return history.behaviours.sum(1) / history.there.sum(1, keepdim=True).clamp(min=1)


def last_behaviour(history: Histories) -> Tensor:
    """Return the last behaviour of each request, zeros without any, [R, D]."""
    last_R = (history.there.sum(1) - 1).clamp(min=0)
    return history.behaviours[torch.arange(len(last_R), device=last_R.device), last_R]


def fields(history: Histories, candidates: Candidates) -> Tensor:
    """Return what models without target attention read of a candidate, [N, F, D].

    The candidate, the mean of the behaviours, the last of them, and the user's attribute values.
    """
    of_user = torch.stack((mean_behaviour(history), last_behaviour(history), history.profile), 1)
    return torch.cat((candidates.rows[:, None], take_rows(of_user, candidates.request)), 1)


def age_bucket(ages: Tensor) -> Tensor:
    """Return floor(log2(1 + seconds)), at most AGES - 1."""
    return (1 + ages).log2().floor().to(torch.int64).clamp(0, AGES - 1)
