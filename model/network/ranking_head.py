"""Ranking: one small tower per action on the encoder's output at the shown item's token, all computed at once.

T targets, A actions, D width. A tower is D -> D -> 1 with SiLU between, on the normalised output. It gives the logit of
"the user will act so on the item within the action window".
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, layer_norm, silu


class Towers(nn.Module):
    """The towers of all actions, their weights stacked."""

    def __init__(self, dim: int, actions: int, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.w_in = nn.Parameter(torch.empty(actions, dim, dim, dtype=dtype))
        self.b_in = nn.Parameter(torch.zeros(actions, 1, dim, dtype=dtype))
        self.w_out = nn.Parameter(torch.empty(actions, dim, 1, dtype=dtype))
        self.b_out = nn.Parameter(torch.zeros(actions, 1, 1, dtype=dtype))
        for weights in (*self.w_in, *self.w_out):
            nn.init.xavier_uniform_(weights, generator=generator)

    def forward(self, y_TD: Tensor) -> Tensor:
        """Return the logits, [T, A]."""
        y_ATD = layer_norm(y_TD, y_TD.shape[-1:]).expand(len(self.w_in), -1, -1)
        hidden_ATD = silu(torch.baddbmm(self.b_in, y_ATD, self.w_in))
        return torch.baddbmm(self.b_out, hidden_ATD, self.w_out).squeeze(-1).T


def loss(logits_TA: Tensor, labels_TA: Tensor) -> Tensor:
    """Return the binary cross-entropy, a mean over targets and a sum over actions; 0 without targets."""
    total = binary_cross_entropy_with_logits(logits_TA, labels_TA.to(logits_TA.dtype), reduction="sum")
    return total / max(1, len(logits_TA))
