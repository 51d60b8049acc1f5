"""Random batches for a few layers, with outputs and gradients by compiled loops, and by loops over rows in float64."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import layer_norm, linear, silu

from model.attention.bias_terms import bias_terms
from model.attention.cpu import encode
from model.attention.cpu.dispatch import ACTIVATIONS
from model.attention.reference import attention as reference
from model.attention.relative_bias import BIASES, Bias, next_ms
from model.network.encoders.hstu import Layer
from tests.model.attention.attention_cases import offsets_of

EPS = 1e-6
VARIANTS = list(itertools.product(sorted(ACTIVATIONS), ("none", *BIASES)))
SECOND_MS = 1000


@dataclass(frozen=True)
class Case:
    """A random batch for a few layers: float64 for the loops over rows, float32 for the compiled loops."""

    lengths: list[int]
    dim: int
    heads: int
    d_qk: int
    d_v: int
    alpha: float
    activation: str
    bias: str
    threads: int
    seed: int
    layers: int = 2

    @property
    def max_len(self) -> int:
        return max(self.lengths) + 1

    @property
    def offsets(self) -> Tensor:
        return offsets_of(self.lengths)

    def rng(self, more: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + 1000 * more)

    def normal(self, *shape: int, more: int = 0) -> Tensor:
        return torch.randn(shape, generator=self.rng(more), dtype=torch.float64)

    def times(self) -> tuple[Tensor, Tensor]:
        gaps = torch.rand(sum(self.lengths), generator=self.rng()).mul(14).exp().mul(SECOND_MS).long()
        ts_ms = 1_700_000_000_000 + gaps.cumsum(0)
        return ts_ms, next_ms(ts_ms, self.offsets)

    def inputs(self, dtype: torch.dtype) -> tuple[Tensor, list[Layer]]:
        """Return x, and layers whose scores are about as large as 1."""
        layers = []
        for at in range(self.layers):
            shape = {"heads": self.heads, "d_qk": self.d_qk, "d_v": self.d_v, "alpha": self.alpha}
            made = {"dtype": torch.float64, "generator": self.rng(at)}
            kind = BIASES.get(self.bias)
            layer = Layer(self.dim, **shape, bias=kind(self.max_len, **made) if kind else None, **made)  # type: ignore[arg-type]
            with torch.no_grad():
                layer.w_uvqk.copy_(self.normal(*layer.w_uvqk.shape, more=at) / self.dim**0.5)
                layer.b_out.copy_(self.normal(self.dim, more=at))
                for parameter in layer.bias.parameters() if layer.bias is not None else ():
                    parameter.add_(self.normal(*parameter.shape, more=at) * 0.5)
            layers.append(layer.to(dtype))
        return self.normal(sum(self.lengths), self.dim).to(dtype).requires_grad_(), layers

    def fast(self, *, grad: bool = True) -> list[Tensor]:
        """Return the output and the gradients of x and of all parameters by the compiled loops."""
        x, layers = self.inputs(torch.float32)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            batch = encode.compiled_batch(self.offsets, max_len=self.max_len, tokens=len(x), activation=self.activation)
            if self.bias != "none":
                batch = encode.with_times(batch, *self.times(), self.bias)
            heads = encode.Heads(self.heads, self.d_qk, self.d_v, self.alpha, EPS)
            with torch.set_grad_enabled(grad):
                out = encode.encode(x, batch, heads, layers, [bias_terms(layer.bias) for layer in layers])
            return self.results(out, x, layers) if grad else [out]
        finally:
            torch.set_num_threads(before)

    def slow(self) -> list[Tensor]:
        """Return the same by loops over rows, in float64."""
        first, layers = self.inputs(torch.float64)
        x = first
        for layer in layers:
            u, v, q, k = silu(norm(x) @ layer.w_uvqk).split(layer.widths, -1)
            q, k, v = (part.reshape(len(x), self.heads, -1) for part in (q, k, v))
            options: dict[str, Any] = {"max_len": self.max_len, "alpha": self.alpha, "activation": self.activation}
            o = reference(q, k, v, self.offsets, **options, bias=self.padded_bias(layer.bias)).flatten(1)
            x = linear(u * norm(o), layer.w_out, layer.b_out) + x
        return self.results(x, first, layers)

    def padded_bias(self, table: Bias | None) -> Tensor | None:
        if table is None:
            return None
        ts_ms, asked_ms = self.times()
        at = torch.arange(max(self.lengths))
        starts = self.offsets[:-1, None]
        index = (starts + at).clamp(max=len(ts_ms) - 1)
        asked_s, ts_s = (ms[index].double() / 1000 for ms in (asked_ms, ts_ms))
        measured = table.measure(asked_s[:, :, None], ts_s[:, None, :])
        out: Tensor = table((at[None, None] - at[None, :, None] + self.max_len - 1).clamp(min=0), measured)
        return out

    def results(self, out: Tensor, x: Tensor, layers: list[Layer]) -> list[Tensor]:
        cotangent = self.normal(*out.shape, more=9).to(out.dtype)
        trained = [x, *(parameter for layer in layers for parameter in layer.parameters())]
        return [out.detach(), *torch.autograd.grad((out * cotangent).sum(), trained)]


def norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], eps=EPS)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw any lengths and widths; in rows narrower than 4 a norm would magnify rounding errors too much."""
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any))
    dim, heads, d_qk, d_v = (draw(st.integers(*limits)) for limits in ((4, 20), (1, 3), (1, 18), (4, 18)))
    activation, bias = draw(st.sampled_from(VARIANTS))
    alpha = draw(st.sampled_from([1.0, 0.3]))
    threads, seed, layers = draw(st.sampled_from([1, 2, 3])), draw(st.integers(0, 99)), draw(st.integers(1, 2))
    return Case(lengths, dim, heads, d_qk, d_v, alpha, activation, bias, threads, seed, layers)


def far_apart(ours: list[Tensor], theirs: list[Tensor], least: float = 1.0) -> float:
    """Return the largest distance, relative to the largest number of each tensor, or to `least` if that is more."""
    sizes = [max(float(b.abs().max()), least) for b in theirs]
    return max(float((a.double() - b).abs().max()) / size for a, b, size in zip(ours, theirs, sizes, strict=True))


def prepared(case: Case) -> tuple[Tensor, Layer, Callable[[], Tensor]]:
    """Return the first of a case's layers, its input, and a function that runs it."""
    x, (layer, *_) = case.inputs(torch.float32)
    batch = encode.compiled_batch(case.offsets, max_len=case.max_len, tokens=len(x), activation=case.activation)
    if case.bias != "none":
        batch = encode.with_times(batch, *case.times(), case.bias)
    heads = encode.Heads(case.heads, case.d_qk, case.d_v, case.alpha, EPS)
    return x, layer, lambda: encode.encode(x, batch, heads, [layer], [bias_terms(layer.bias)])
