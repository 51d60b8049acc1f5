"""HSTU attention by loops over sequences and rows: slow and plainly right. All fast paths are compared with it.

L tokens, B sequences, H heads, d = d_qk or d_v; differentiable, in any floating dtype.
"""

import torch
from torch import Tensor

from model.attention.activations import activation_named


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    *,
    max_len: int,
    alpha: float,
    activation: str = "silu",
    num_targets: Tensor | None = None,
    window: int = 0,
    bias: Tensor | None = None,
) -> Tensor:
    """Return the sum over the keys that a row sees of phi(alpha * q·k + bias) * v, [L, H, d_v].

    Args:
        q: [L, H, d_qk] queries.
        k: [L, H, d_qk] keys.
        v: [L, H, d_v] values.
        offsets: i64[B+1] bounds of the sequences; empty ones are allowed.
        max_len: divides the weights of "silu": fixed, not the longest of the batch.
        alpha: scale of the products, before the bias.
        activation: phi, a name in ACTIVATIONS.
        num_targets: i64[B] candidates at the end of each sequence: each sees the history and itself, no other one.
        window: previous tokens that a row sees beside itself, 0 for all; candidates stand at the end of the history.
        bias: [B, N, N], shared by the heads; the first n rows and columns serve a sequence of n tokens.
    """
    bounds, weights_of = offsets.tolist(), activation_named(activation).row_weights
    targets = [0] * (len(bounds) - 1) if num_targets is None else num_targets.tolist()
    rows = []
    for b, candidates in enumerate(targets):
        start, length = bounds[b], bounds[b + 1] - bounds[b]
        for i in range(length):
            seen = _keys_of(i, length - candidates, window)
            keys = torch.tensor([start + j for j in seen], device=q.device)
            scores_Hk = alpha * torch.einsum("hd,khd->hk", q[start + i], k[keys])
            if bias is not None:
                scores_Hk = scores_Hk + bias[b, i, seen]
            rows.append(torch.einsum("hk,khd->hd", weights_of(scores_Hk, max_len), v[keys]))
    return torch.stack(rows) if rows else v + (q.sum() + k.sum())


def _keys_of(i: int, history: int, window: int) -> list[int]:
    end = min(i, history)
    begin = max(0, end - window) if window else 0
    return [*range(begin, end), i]
