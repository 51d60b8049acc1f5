"""The HSTU layer and the encoder made of such layers: jagged in, jagged out.

L tokens, B sequences, D width, H heads of d_qk and d_v. One layer (Zhai et al., 2024, arXiv 2402.17152; pre-norm,
epsilon and initial values as in Meta's public research code):

    U, V, Q, K = split(silu(norm(x) @ W))
    o = attention(Q, K, V)          silu(alpha*QKᵀ + bias) / n, or a softmax of it
    y = (U * norm(o)) @ W_outᵀ + b + x

norm is a LayerNorm without weights, over all heads of o at once. There is no feed-forward block. Layers run with the
fused kernels on CUDA (attention/triton/dispatch.py says when), in compiled loops on a CPU (attention/cpu/dispatch.py),
and else in plain PyTorch (attention/tiled.py).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, silu

from model.attention.activations import Activation, activation_named
from model.attention.bias_terms import bias_terms
from model.attention.cpu.dispatch import use_compiled
from model.attention.relative_bias import BIASES, Bias, Relations, next_ms
from model.attention.tile_plan import Tile, TilePlan, plan_tiles
from model.attention.tiled import BiasOf, attend_candidates, attend_tiled
from model.attention.triton.api import attend_fused, norm_gate, silu_parts
from model.attention.triton.batch import FusedBatch, clock_of, fused_batch
from model.attention.triton.dispatch import use_fused
from model.network.encoders.base import JaggedEncoder

EPS = 1e-6  # of every norm


class Layer(nn.Module):
    """One HSTU layer; the encoder's relations evaluate its bias, if it has one."""

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        d_qk: int,
        d_v: int,
        alpha: float,
        bias: Bias | None,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.heads, self.alpha = heads, alpha
        self.widths = [heads * d for d in (d_v, d_v, d_qk, d_qk)]
        self.w_uvqk = nn.Parameter(torch.empty(dim, sum(self.widths), dtype=dtype))
        self.w_out = nn.Parameter(torch.empty(dim, heads * d_v, dtype=dtype))
        self.b_out = nn.Parameter(torch.zeros(dim, dtype=dtype))
        self.bias = bias
        nn.init.normal_(self.w_uvqk, 0.0, 0.02, generator=generator)
        nn.init.xavier_uniform_(self.w_out, generator=generator)

    def forward(self, x_LD: Tensor, plan: TilePlan, activation: Activation, relations: Relations | None) -> Tensor:
        """Return the layer's output, [L, D], in plain PyTorch."""
        u, v, q, k = silu(_norm(x_LD) @ self.w_uvqk).split_with_sizes(self.widths, -1)
        q, k, v = (self._heads(x) for x in (q, k, v))
        o = attend_tiled(q, k, v, plan, self.alpha, activation, self._bias_of(relations)).flatten(1)
        return linear(u * _norm(o), self.w_out, self.b_out) + x_LD

    def after(
        self,
        x_bD: Tensor,
        keys_nK: Tensor,
        values_nV: Tensor,
        plan: TilePlan,
        activation: Activation,
        bias: Tensor | None,
    ) -> Tensor:
        """Return the output at candidates after a history whose keys and values are known, [b, D].

        Args:
            x_bD: The layer's input at the candidates.
            keys_nK: The history's keys, all heads side by side.
            values_nV: Its values, likewise.
            plan: Of `plan_candidates`, for which the activation was prepared.
            activation: Turns scores into weights.
            bias: Of the candidates' row, [1, 1, n + 1], or None.
        """
        u, v, q, k = silu(_norm(x_bD) @ self.w_uvqk).split_with_sizes(self.widths, -1)
        q, k, v, keys, values = (self._heads(x) for x in (q, k, v, keys_nK, values_nV))
        o = attend_candidates(q, k, v, keys, values, plan, self.alpha, activation, bias).flatten(1)
        return linear(u * _norm(o), self.w_out, self.b_out) + x_bD

    def fused(self, x_LD: Tensor, batch: FusedBatch, activation: str) -> Tensor:
        """Return the layer's output, [L, D], by the fused kernels."""
        u, v, q, k = silu_parts(_norm(x_LD) @ self.w_uvqk, self.widths)
        q, k, v = (self._heads(x) for x in (q, k, v))
        o = attend_fused(q, k, v, batch, self.alpha, activation, bias_terms(self.bias)).flatten(1)
        return linear(norm_gate(u, o, EPS), self.w_out, self.b_out) + x_LD

    def head_widths(self) -> tuple[int, int]:
        """Return d_qk and d_v."""
        return self.widths[2] // self.heads, self.widths[1] // self.heads

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.heads, x.shape[1] // self.heads)

    def _bias_of(self, relations: Relations | None) -> BiasOf:
        def bias(tile: Tile) -> Tensor | None:
            return None if self.bias is None or relations is None else relations.bias(self.bias, tile)

        return bias


class Encoder(JaggedEncoder):
    """The layers of one recommender; what they read of a batch is made once for all of them."""

    def make_layer(self, dtype: torch.dtype, generator: torch.Generator) -> Layer:
        """Return a new layer; its bias is drawn before its weights."""
        settings = self.settings
        d, kind = settings.dim // settings.heads, BIASES.get(settings.bias)
        return Layer(
            settings.dim,
            heads=settings.heads,
            d_qk=d,
            d_v=d,
            alpha=d**-0.5 if activation_named(settings.attention).scaled else 1.0,
            bias=kind(settings.max_len, dtype=dtype, generator=generator) if kind else None,
            dtype=dtype,
            generator=generator,
        )

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
        """Return the output at each token, [L, D]."""
        settings = self.settings
        if settings.bias in BIASES and asked_ms_L is None:
            asked_ms_L = next_ms(ts_ms_L, offsets, num_targets=num_targets)
        width, activation, bias = settings.dim // settings.heads, settings.attention, settings.bias
        if use_fused(x_LD, width=width, heads=settings.heads, activation=activation, bias=bias):
            return self._fused(x_LD, offsets, ts_ms_L, num_targets, asked_ms_L)
        if use_compiled(x_LD, num_targets, activation=activation, bias=bias):
            return self._compiled(x_LD, offsets, ts_ms_L, asked_ms_L)
        return self._plain(x_LD, offsets, ts_ms_L, num_targets, asked_ms_L)

    def own_layers(self) -> list[Layer]:
        """Return the layers in their order."""
        return [cast(Layer, layer) for layer in self.layers]

    def _plain(
        self, x_LD: Tensor, offsets: Tensor, ts_ms_L: Tensor, num_targets: Tensor | None, asked_ms_L: Tensor | None
    ) -> Tensor:
        settings, relations = self.settings, None
        shape = {"max_len": settings.max_len, "tokens": len(x_LD), "heads": settings.heads}
        plan = plan_tiles(offsets, **shape, num_targets=num_targets)
        activation = activation_named(settings.attention)(plan, x_LD.dtype)
        if settings.bias in BIASES and asked_ms_L is not None:
            relations = Relations(plan, ts_ms_L, asked_ms_L, BIASES[settings.bias])
        for layer in self.layers:
            x_LD = layer(x_LD, plan, activation, relations)
        return x_LD

    def _compiled(self, x_LD: Tensor, offsets: Tensor, ts_ms_L: Tensor, asked_ms_L: Tensor | None) -> Tensor:
        from model.attention.cpu import encode  # imports numba, which a GPU does not need

        settings = self.settings
        shape = {"max_len": settings.max_len, "tokens": len(x_LD)}
        batch = encode.compiled_batch(offsets, **shape, activation=settings.attention)
        if settings.bias in BIASES and asked_ms_L is not None:
            batch = encode.with_times(batch, ts_ms_L, asked_ms_L, settings.bias)
        layers = self.own_layers()
        heads = encode.Heads(settings.heads, *layers[0].head_widths(), layers[0].alpha, EPS)
        return encode.encode(x_LD, batch, heads, layers, [bias_terms(layer.bias) for layer in layers])

    def _fused(
        self, x_LD: Tensor, offsets: Tensor, ts_ms_L: Tensor, num_targets: Tensor | None, asked_ms_L: Tensor | None
    ) -> Tensor:
        clock = None if asked_ms_L is None else clock_of(ts_ms_L, asked_ms_L)
        shape = {"max_len": self.settings.max_len, "tokens": len(x_LD)}
        batch = fused_batch(offsets, **shape, num_targets=num_targets, clock=clock)
        for layer in self.layers:
            x_LD = cast(Layer, layer).fused(x_LD, batch, self.settings.attention)
        return x_LD


def _norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], eps=EPS)
