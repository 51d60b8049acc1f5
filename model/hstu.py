"""The HSTU layer and the encoder made of such layers: jagged in, jagged out.

L tokens, B sequences, D width, H heads of d_qk and d_v. One layer (Zhai et al., 2024, arXiv 2402.17152; pre-norm,
epsilon and initial values as in Meta's public research code):

    U, V, Q, K = split(silu(norm(x) @ W))
    o = attention(Q, K, V)          silu(alpha*QKᵀ + bias) / max_len, or a softmax of it
    y = (U * norm(o)) @ W_outᵀ + b + x

norm is a LayerNorm without weights, over all heads of o at once. There is no feed-forward block.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, silu

from model.attention import activation_named, attend, plan_tiles
from model.attention.activations import Activation
from model.attention.padded import BiasOf
from model.attention.plan import Plan, Tile
from model.bias import Relations, RelativeBias, next_ms
from model.config import ModelSettings

_EPS = 1e-6  # of every norm


class Layer(nn.Module):
    """One HSTU layer. Its bias, if it has one, is looked up by the encoder's relations."""

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        d_qk: int,
        d_v: int,
        alpha: float,
        bias: RelativeBias | None,
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

    def forward(self, x_LD: Tensor, plan: Plan, activation: Activation, relations: Relations | None) -> Tensor:
        """Give the layer's output, [L, D]."""
        u, v, q, k = silu(_norm(x_LD) @ self.w_uvqk).split_with_sizes(self.widths, -1)
        q, k, v = (x.view(len(x), self.heads, x.shape[1] // self.heads) for x in (q, k, v))
        o = attend(q, k, v, plan, self.alpha, activation, self._bias_of(relations)).flatten(1)
        return linear(u * _norm(o), self.w_out, self.b_out) + x_LD

    def _bias_of(self, relations: Relations | None) -> BiasOf:
        def bias(tile: Tile) -> Tensor | None:
            return None if self.bias is None or relations is None else relations.bias(self.bias, tile)

        return bias


class Encoder(nn.Module):
    """The layers of one recommender; a batch is cut into tiles once for all of them."""

    def __init__(self, settings: ModelSettings, *, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.settings = settings
        d = settings.dim // settings.heads
        self.layers = nn.ModuleList(
            Layer(
                settings.dim,
                heads=settings.heads,
                d_qk=d,
                d_v=d,
                alpha=1.0 if settings.attention == "silu" else d**-0.5,
                bias=RelativeBias(settings.max_len, dtype=dtype, generator=generator) if self._biased else None,
                dtype=dtype,
                generator=generator,
            )
            for _ in range(settings.layers)
        )

    def forward(
        self,
        x_LD: Tensor,
        offsets: Tensor,
        ts_ms_L: Tensor,
        num_targets: Tensor | None = None,
        *,
        asked_ms_L: Tensor | None = None,
    ) -> Tensor:
        """Give the output at each token, [L, D].

        Args:
            x_LD: inputs.
            offsets: i64[B+1] bounds of the sequences.
            ts_ms_L: i64[L] times of the tokens.
            num_targets: i64[B] candidates at the end of each sequence, scored in one pass; None for none.
            asked_ms_L: i64[L] time as of which each row looks; by default that of `bias.next_ms`.
        """
        settings = self.settings
        shape = {"max_len": settings.max_len, "tokens": len(x_LD), "heads": settings.heads}
        plan = plan_tiles(offsets, **shape, num_targets=num_targets)
        activation = activation_named(settings.attention)(plan, x_LD.dtype)
        relations = None
        if self._biased:
            asked_ms_L = next_ms(ts_ms_L, offsets, num_targets=num_targets) if asked_ms_L is None else asked_ms_L
            relations = Relations(plan, ts_ms_L, asked_ms_L)
        for layer in self.layers:
            x_LD = layer(x_LD, plan, activation, relations)
        return x_LD

    @property
    def _biased(self) -> bool:
        return self.settings.bias == "bucketed"


def _norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], eps=_EPS)
