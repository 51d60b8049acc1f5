"""The one signature of HSTU attention: checks, then the fast path.

L tokens, B sequences, H heads; N at least the longest sequence. Sequences are jagged: values [L, ...], offsets [B+1].
"""

import torch
from torch import Tensor

from model.attention.activations import activation_named
from model.attention.tile_plan import TilePlan, plan_tiles
from model.attention.tiled import BiasOf, attend
from model.errors import ModelError


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
    bias: Tensor | BiasOf | None = None,
) -> Tensor:
    """Give sum over the keys seen of phi(alpha * q·k + bias) * v, [L, H, d_v]: causal, with phi of `activation`.

    Args:
        q: [L, H, d_qk] queries.
        k: [L, H, d_qk] keys.
        v: [L, H, d_v] values.
        offsets: i64[B+1] bounds of the sequences; empty ones are allowed.
        max_len: divides the weights of "silu", fixed and not the batch's; also the longest sequence allowed, in which
            all candidates count as one token.
        alpha: scale of the products, before the bias.
        activation: "silu" (/ max_len), "silu_seen" (/ number of keys that the row sees) or "softmax" (over these).
        num_targets: i64[B] candidates at the end of each sequence: each sees the history and itself, no other one.
        window: previous tokens that a row sees beside itself, 0 for all; candidates stand at the end of the history.
        bias: [B, N, N] shared by the heads, whose first n rows and columns serve a sequence of n tokens; or a function
            from a tile (plan.Tile) to its [b or 1, r, k], so that no [B, N, N] need exist.

    Raises:
        ModelError: a name is unknown or a shape is wrong; the sentence says which.
    """
    _check(q, k, v)
    plan = plan_tiles(offsets, max_len=max_len, tokens=len(q), heads=q.shape[1], num_targets=num_targets, window=window)
    prepared = activation_named(activation)(plan, q.dtype)
    return attend(q, k, v, plan, alpha, prepared, _bias_of(bias, plan))


def _bias_of(bias: Tensor | BiasOf | None, plan: TilePlan) -> BiasOf:
    if bias is None:
        return lambda tile: None
    if not isinstance(bias, Tensor):
        return bias
    sequences, longest = len(plan.lengths), int(plan.lengths.max()) if len(plan.lengths) else 0
    if bias.dim() != 3 or bias.shape[0] != sequences or bias.shape[1] != bias.shape[2] or bias.shape[1] < longest:
        raise ModelError(
            f"Attention's bias has shape {list(bias.shape)}; for {sequences} sequences of at most {longest} tokens it "
            f"must be [{sequences}, N, N] with N at least {longest}."
        )
    return lambda tile: bias[tile.sequences[:, None, None], tile.rows, tile.keys]


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = f"q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
    if q.dim() != 3 or v.dim() != 3 or q.shape != k.shape or q.shape[:2] != v.shape[:2]:
        raise ModelError(f"Attention wants q and k as [L, H, d_qk] and v as [L, H, d_v], but got {shapes}.")
    if not (q.dtype == k.dtype == v.dtype and torch.is_floating_point(q)):
        raise ModelError(f"Attention wants one floating dtype, but q, k, v are {q.dtype}, {k.dtype}, {v.dtype}.")
