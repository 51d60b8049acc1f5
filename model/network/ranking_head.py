"""Ranking: one small tower per action on the encoder's output at the shown item's token, all computed at once.

T targets, A actions, D width. A tower gives the logit of "the user will act so on the item within the action window".
It is 3 D + 1 -> D -> 1 with SiLU between, on

    layer_norm(y)      the encoder's output at the shown item's token
    sqrt(D) e          the item's row, of unit length
    D q * e            the products of the user's query and the row, element by element
    COSINE q · e       their cosine

q and e are what retrieval has learnt, and no gradient of a tower reaches them: from the encoder's output alone a tower
has to learn anew, and from clicks alone, which users like which items.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, layer_norm, silu

COSINE: Final = 5.0  # scale of the cosine, which is far below 1 mostly


class Towers(nn.Module):
    """The towers of all actions, their weights stacked."""

    def __init__(self, dim: int, actions: int, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.w_in = nn.Parameter(torch.empty(actions, 3 * dim + 1, dim, dtype=dtype))
        self.b_in = nn.Parameter(torch.zeros(actions, 1, dim, dtype=dtype))
        self.w_out = nn.Parameter(torch.empty(actions, dim, 1, dtype=dtype))
        self.b_out = nn.Parameter(torch.zeros(actions, 1, 1, dtype=dtype))
        for weights in (*self.w_in, *self.w_out):
            nn.init.xavier_uniform_(weights, generator=generator)

    def forward(self, y_TD: Tensor, query_TD: Tensor, item_TD: Tensor) -> Tensor:
        """Return the logits, [T, A].

        Args:
            y_TD: The encoder's output at the targets' tokens.
            query_TD: The user's queries, of unit length.
            item_TD: Rows of the shown items, of unit length.
        """
        dim, product_TD = y_TD.shape[-1], query_TD * item_TD
        cosine_T1 = COSINE * product_TD.sum(-1, keepdim=True)
        parts = (layer_norm(y_TD, (dim,)), item_TD * dim**0.5, product_TD * dim, cosine_T1)
        x_ATI = torch.cat(parts, -1).expand(len(self.w_in), -1, -1)
        hidden_ATD = silu(torch.baddbmm(self.b_in, x_ATI, self.w_in))
        return torch.baddbmm(self.b_out, hidden_ATD, self.w_out).squeeze(-1).T


def loss(logits_TA: Tensor, labels_TA: Tensor) -> Tensor:
    """Return the binary cross-entropy, a mean over targets and a sum over actions; 0 without targets."""
    total = binary_cross_entropy_with_logits(logits_TA, labels_TA.to(logits_TA.dtype), reduction="sum")
    return total / max(1, len(logits_TA))
