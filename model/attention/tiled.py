"""Attention in plain PyTorch, for CPU and CUDA: dense tiles of sequences of like length, gradients by autograd.

H heads, d = d_qk or d_v; b sequences, n tokens, r rows, k keys of a tile (tile_plan.py); m = b * H matrices of a tile.
All heads of all tokens are gathered into the padded blocks at once, and all outputs are gathered back at once, each
head's rows side by side: a layer takes few operations whatever B is, and the products need no transposition.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.attention.activations import Activation
from model.attention.tile_plan import AREA, Tile, TilePlan

BiasOf = Callable[[Tile], Tensor | None]  # -> [b or 1, r, k]


def attend_tiled(
    q: Tensor, k: Tensor, v: Tensor, plan: TilePlan, alpha: float, activation: Activation, bias: BiasOf
) -> Tensor:
    """Return the attention of a planned batch, [L, H, d_v]: the sum over the keys seen of phi(alpha * q·k + bias) * v.

    Args:
        q: Queries, [L, H, d_qk].
        k: Keys, [L, H, d_qk].
        v: Values, [L, H, d_v].
        plan: The tiles of the batch.
        alpha: Scale of the products, before the bias.
        activation: The activation phi, prepared for the plan.
        bias: From a tile to its bias [b or 1, r, k], or None; so no [B, N, N] need exist.
    """
    if not plan.tokens:
        return v + (q.sum() + k.sum())  # empty, but part of the graph
    if alpha != 1.0:
        q = q * alpha
    outputs = [*_histories(q, k, v, plan, activation, bias), *_candidates(q, k, v, plan, activation, bias)]
    return torch.cat(outputs).index_select(0, plan.where).view(v.shape)


def _histories(q: Tensor, k: Tensor, v: Tensor, plan: TilePlan, activation: Activation, bias: BiasOf) -> list[Tensor]:
    sizes = [block.matrices * block.length for block in plan.blocks]
    parts = (x.reshape(-1, x.shape[-1]).index_select(0, plan.padded).split_with_sizes(sizes) for x in (q, k, v))
    outputs = []
    for block, *qkv in zip(plan.blocks, *parts, strict=True):
        q_mnd, k_mnd, v_mnd = (x.view(block.matrices, block.length, -1) for x in qkv)
        for tile in block.tiles:
            k_mkd, v_mkd = k_mnd[:, tile.key_slice], v_mnd[:, tile.key_slice]
            scores_mrk = torch.bmm(q_mnd[:, tile.row_slice], k_mkd.mT)
            weights_mrk = _weights(scores_mrk, tile, activation, bias)
            outputs.append(torch.bmm(weights_mrk, v_mkd).flatten(0, 1))
    return outputs


def _candidates(q: Tensor, k: Tensor, v: Tensor, plan: TilePlan, activation: Activation, bias: BiasOf) -> list[Tensor]:
    outputs = []
    for tile in plan.candidates:
        q_Hrd, k_Hrd, v_Hrd = (x[tile.row_slice].transpose(0, 1) for x in (q, k, v))
        k_Hkd, v_Hkd = (x[tile.key_slice].transpose(0, 1) for x in (k, v))
        scores_Hrk = torch.cat((q_Hrd @ k_Hkd.mT, (q_Hrd * k_Hrd).sum(-1, keepdim=True)), -1)
        weights_Hrk = _weights(scores_Hrk, tile, activation, bias)
        output_Hrd = weights_Hrk[..., :-1] @ v_Hkd + weights_Hrk[..., -1:] * v_Hrd
        outputs.append(output_Hrd.flatten(0, 1))
    return outputs


def _weights(scores_mrk: Tensor, tile: Tile, activation: Activation, bias: BiasOf) -> Tensor:
    bias_brk = bias(tile)
    if bias_brk is None:
        return activation.weights(scores_mrk, tile)
    b = len(tile.sequences)
    scores_bHrk = scores_mrk.view(b, -1, *scores_mrk.shape[1:]) + bias_brk[:, None]
    return activation.weights(scores_bHrk, tile).view_as(scores_mrk)


def attend_candidates(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, plan: TilePlan, alpha: float, activation: Activation,
    bias: Tensor | None,
) -> Tensor:  # fmt: skip
    """Return the attention of candidates after one history, whose keys and values are known, [b, H, d_v].

    Args:
        q: Queries, [b, H, d_qk].
        k: Own keys, [b, H, d_qk].
        v: Own values, [b, H, d_v].
        keys: Those of the history, [n, H, d_qk].
        values: Likewise, [n, H, d_v].
        plan: What `plan_candidates` returns for the history.
        alpha: Scale of the products, before the bias.
        activation: The activation, prepared for the plan.
        bias: Of the plan's tile, [1, 1, n + 1], or None.
    """
    if alpha != 1.0:
        q = q * alpha
    keys_Hdn, values_Hnd = keys.permute(1, 2, 0), values.transpose(0, 1)
    step, outputs = max(1, AREA["cpu"] // (len(keys) + 1)), []
    for first in range(0, len(q), step):
        q_Hrd, k_Hrd, v_Hrd = (x[first : first + step].transpose(0, 1) for x in (q, k, v))
        scores_Hrk = torch.cat((q_Hrd @ keys_Hdn, (q_Hrd * k_Hrd).sum(-1, keepdim=True)), -1)
        if bias is not None:
            scores_Hrk += bias
        weights_Hrk = activation.weights(scores_Hrk, plan.candidates[0])
        outputs.append(weights_Hrk[..., :-1] @ values_Hnd + weights_Hrk[..., -1:] * v_Hrd)
    return torch.cat(outputs, 1).transpose(0, 1)
