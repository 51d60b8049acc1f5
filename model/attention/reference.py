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
        q: Queries, [L, H, d_qk].
        k: Keys, [L, H, d_qk].
        v: Values, [L, H, d_v].
        offsets: Bounds of the sequences, i64[B+1]; empty ones are allowed.
        max_len: What divides the weights of "silu": fixed, not the longest of the batch.
        alpha: Scale of the products, before the bias.
        activation: Name of phi, one of ACTIVATIONS.
        num_targets: Number of candidates at the end of each sequence, i64[B]; each sees the history and itself alone.
        window: Previous tokens that a row sees beside itself, 0 for all; candidates stand at the end of the history.
        bias: Shared by the heads, [B, N, N]; the first n rows and columns serve a sequence of n tokens.
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
