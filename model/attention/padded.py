"""The fast path in plain PyTorch, for CPU and CUDA: dense tiles of sequences of like length, gradients by autograd.

H heads, d = d_qk or d_v; b sequences, n tokens, r rows, k keys of a tile (plan.py). All tokens are gathered into the
padded blocks at once, and all outputs back at once, so that a layer costs few operations whatever B is.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.attention.activations import Activation
from model.attention.plan import Plan, Tile

BiasOf = Callable[[Tile], Tensor | None]  # -> [b or 1, r, k]


def attend(q: Tensor, k: Tensor, v: Tensor, plan: Plan, alpha: float, activation: Activation, bias: BiasOf) -> Tensor:
    """Give the attention of a planned batch, [L, H, d_v]."""
    if not plan.tokens:
        return v + (q.sum() + k.sum())  # empty, yet of the graph
    if alpha != 1.0:
        q = q * alpha
    outputs = [*_histories(q, k, v, plan, activation, bias), *_candidates(q, k, v, plan, activation, bias)]
    return torch.cat(outputs).index_select(0, plan.where)


def _histories(q: Tensor, k: Tensor, v: Tensor, plan: Plan, activation: Activation, bias: BiasOf) -> list[Tensor]:
    sizes = [block.sequences * block.length for block in plan.blocks]
    parts = [x.index_select(0, plan.padded).split_with_sizes(sizes) for x in (q, k, v)]
    outputs = []
    for block, *qkv in zip(plan.blocks, *parts, strict=True):
        q_bHnd, k_bHnd, v_bHnd = (
            x.view(block.sequences, block.length, *x.shape[1:]).transpose(1, 2).contiguous() for x in qkv
        )
        for tile in block.tiles:
            k_bHkd, v_bHkd = k_bHnd[:, :, tile.key_slice], v_bHnd[:, :, tile.key_slice]
            scores_bHrk = q_bHnd[:, :, tile.row_slice] @ k_bHkd.mT
            weights_bHrk = _weights(scores_bHrk, tile, activation, bias)
            outputs.append((weights_bHrk @ v_bHkd).transpose(1, 2).flatten(0, 1))
    return outputs


def _candidates(q: Tensor, k: Tensor, v: Tensor, plan: Plan, activation: Activation, bias: BiasOf) -> list[Tensor]:
    outputs = []
    for tile in plan.candidates:
        (q_Hrd, k_Hrd, v_Hrd), (k_Hkd, v_Hkd) = (
            [x[part].transpose(0, 1) for x in xs]
            for part, xs in ((tile.row_slice, (q, k, v)), (tile.key_slice, (k, v)))
        )
        scores_Hrk = torch.cat((q_Hrd @ k_Hkd.mT, (q_Hrd * k_Hrd).sum(-1, keepdim=True)), -1)
        weights_Hrk = _weights(scores_Hrk[None], tile, activation, bias)[0]
        output_Hrd = weights_Hrk[..., :-1] @ v_Hkd + weights_Hrk[..., -1:] * v_Hrd
        outputs.append(output_Hrd.transpose(0, 1))
    return outputs


def _weights(scores_bHrk: Tensor, tile: Tile, activation: Activation, bias: BiasOf) -> Tensor:
    bias_brk = bias(tile)
    if bias_brk is not None:
        scores_bHrk = scores_bHrk.add_(bias_brk[:, None])
    return activation.weights(scores_bHrk, tile)
