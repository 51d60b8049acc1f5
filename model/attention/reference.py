"""HSTU attention by loops over sequences and rows: slow and plainly right, what every fast path is compared with.

L tokens, B sequences, H heads, d = d_qk or d_v; differentiable, in any floating dtype.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu


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
    """Give what `model.attention.attention` gives; the bias can only be a tensor [B, N, N]."""
    bounds = offsets.tolist()
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
            weights_Hk = _weights(scores_Hk, activation, max_len)
            rows.append(torch.einsum("hk,khd->hd", weights_Hk, v[keys]))
    return torch.stack(rows) if rows else v + (q.sum() + k.sum())


def _weights(scores_Hk: Tensor, activation: str, max_len: int) -> Tensor:
    if activation == "softmax":
        return torch.softmax(scores_Hk, -1)
    return silu(scores_Hk) / {"silu": max_len, "silu_seen": scores_Hk.shape[1]}[activation]


def _keys_of(i: int, history: int, window: int) -> list[int]:
    end = min(i, history)
    begin = max(0, end - window) if window else 0
    return [*range(begin, end), i]
