"""SASRec's Transformer (Kang and McAuley, 2018, arXiv 1808.09781), jagged in, jagged out: a baseline for HSTU.

L tokens, B sequences, N longest of a batch, D width, H heads of d. One layer, and a LayerNorm after the last:

    x = x + attention(norm(x) @ W_q, norm(x) @ W_k, norm(x) @ W_v)      causal softmax, scaled by 1/sqrt(d)
    x = x + relu(norm(x) @ W_1 + b_1) @ W_2 + b_2                       point-wise, D wide inside as well

As in the paper, norms have weights, and no matrix follows the heads. Recommender adds the learned positions and scales
embeddings by sqrt(D), as the paper's code does. Differences from the paper:

- No dropout in the layers: one pass serves the test and the loss. Only replayed examples have some, around the encoder.
- Queries, keys and values are all normed, and the residual is x itself, as in the paper's equations. (Its code takes
  keys and values from x without norm, and adds the normed x.)
- The number of heads is a setting; the paper prefers one.
- The loss is that of every encoder here, a sampled softmax over cosines; the paper has a binary cross-entropy of dot
  products with one negative.

The settings `attention` and `bias` have no effect. Batches with candidates (num_targets) use attention/tiled.py.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu, scaled_dot_product_attention

from model.attention.activations import Activation, Softmax
from model.attention.tile_plan import TilePlan, checked, plan_tiles
from model.attention.tiled import attend_tiled
from model.config import ModelSettings
from model.network.encoders.base import JaggedEncoder
from model.network.encoders.padding import Blocks

Attention = Callable[[Tensor, int], Tensor]  # q, k, v side by side, and the number of heads -> [L, D]

_EPS: Final = 1e-8  # of every norm, as in the paper's code
_ALIKE: Final = 7 / 8  # shortest / longest of a block: a token of padding costs as much as a real one


class Norm(nn.Module):
    """LayerNorm with weights, initialised as the identity."""

    def __init__(self, dim: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(dim, dtype=dtype))

    def forward(self, x_LD: Tensor) -> Tensor:
        """Return the normed rows, [L, D]."""
        return layer_norm(x_LD, x_LD.shape[-1:], self.weight, self.bias, _EPS)


class Layer(nn.Module):
    """Self-attention and a feed-forward block, each with a norm before it and a residual after it."""

    def __init__(self, dim: int, *, heads: int, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = Norm(dim, dtype=dtype), Norm(dim, dtype=dtype)
        self.w_qkv = nn.Parameter(torch.empty(dim, 3 * dim, dtype=dtype))
        self.w_1, self.w_2 = (nn.Parameter(torch.empty(dim, dim, dtype=dtype)) for _ in range(2))
        self.b_1, self.b_2 = (nn.Parameter(torch.zeros(dim, dtype=dtype)) for _ in range(2))
        for square in (*self.w_qkv.chunk(3, 1), self.w_1, self.w_2):
            nn.init.xavier_uniform_(square, generator=generator)

    def forward(self, x_LD: Tensor, attention: Attention) -> Tensor:
        """Return the layer's output, [L, D]."""
        x_LD = x_LD + attention(self.norm_attention(x_LD) @ self.w_qkv, self.heads)
        inner_LD = relu(torch.addmm(self.b_1, self.norm_feed(x_LD), self.w_1))
        return x_LD + torch.addmm(self.b_2, inner_LD, self.w_2)


def attend_padded(qkv_LE: Tensor, heads: int, blocks: Blocks, *, both_ways: bool = False) -> Tensor:
    """Return the attention, [L, D], by PyTorch's scaled_dot_product_attention.

    Args:
        qkv_LE: Queries, keys and values side by side.
        heads: The number of heads.
        blocks: The sequences, one at least.
        both_ways: Whether a token sees all of its sequence; else those up to itself.
    """
    outputs = []
    for qkv_bnE, real_bn in zip(blocks.pad(qkv_LE), blocks.real, strict=True):
        q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in qkv_bnE.chunk(3, -1))
        seen = real_bn[:, None, None] if both_ways and real_bn is not None else None
        o_bHnd = scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=not both_ways)
        outputs.append(o_bHnd.transpose(1, 2).flatten(2))
    return blocks.unpad(outputs)


def both_ways(bounds: NDArray[np.int64], device: torch.device) -> Attention:
    """Return the attention of sequences whose tokens see each other, by where these begin and end, i64[B+1]."""
    if not bounds[-1]:
        return lambda qkv_LE, heads: qkv_LE.chunk(3, 1)[2]
    return partial(attend_padded, blocks=Blocks(bounds[:-1], np.diff(bounds), _ALIKE, device), both_ways=True)


def attend_candidates(qkv_LE: Tensor, heads: int, plan: TilePlan, activation: Activation) -> Tensor:
    """Return the attention, [L, D], of a batch that may have candidates, in tiles."""
    q, k, v = (x.view(len(x), heads, x.shape[1] // heads) for x in qkv_LE.chunk(3, 1))
    return attend_tiled(q, k, v, plan, q.shape[-1] ** -0.5, activation, lambda tile: None).flatten(1)


class Encoder(JaggedEncoder):
    """The layers of one recommender, and a norm after the last."""

    def __init__(self, settings: ModelSettings, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__(settings, dtype=dtype, generator=generator)
        self.norm = Norm(settings.dim, dtype=dtype)

    def make_layer(self, dtype: torch.dtype, generator: torch.Generator) -> Layer:
        """Return a new layer."""
        return Layer(self.settings.dim, heads=self.settings.heads, dtype=dtype, generator=generator)

    def forward(
        self,
        x_LD: Tensor,
        offsets: Tensor,
        ts_ms_L: Tensor,
        num_targets: Tensor | None = None,
        *,
        asked_ms_L: Tensor | None = None,
        read_R: Tensor | None = None,
    ) -> Tensor:
        """Return the output at each token, [L, D]; times have no effect."""
        return self.through(x_LD, self._attention(x_LD, offsets, num_targets))

    def through(self, x_LD: Tensor, attention: Attention) -> Tensor:
        """Return the output of all layers, [L, D]."""
        for layer in self.layers:
            x_LD = layer(x_LD, attention)
        y_LD: Tensor = self.norm(x_LD)
        return y_LD

    def _attention(self, x_LD: Tensor, offsets: Tensor, num_targets: Tensor | None) -> Attention:
        tokens, max_len = len(x_LD), self.settings.max_len
        if num_targets is None and tokens:
            bounds, _ = checked(offsets, tokens, None, max_len, 0)
            return partial(attend_padded, blocks=Blocks(bounds[:-1], np.diff(bounds), _ALIKE, offsets.device))
        plan = plan_tiles(offsets, max_len=max_len, tokens=tokens, heads=self.settings.heads, num_targets=num_targets)
        return partial(attend_candidates, plan=plan, activation=Softmax(plan, x_LD.dtype))
