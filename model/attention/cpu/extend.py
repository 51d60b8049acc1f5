"""More tokens of a sequence whose beginning is known, in compiled loops: what answers need of layers.py.

S layers, D width of x, E of z, V of all heads' values and K of their keys, W = V + K; p tokens are known, m more come,
n = p + m. The state of a token is its values and keys in each layer, [S, W]: with causal attention, tokens that follow
change none of it. p is a multiple of ROWS, so each row is computed in the same block and by the same instructions
whether the tokens before it come with it or are known: the bits are the same.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.attention.bias_terms import BiasTerms
from model.attention.cpu.bias import BUCKETED, FUNCTIONAL, NONE, GapPairs, bias_rows, row_buckets
from model.attention.cpu.dispatch import ACTIVATIONS, BIASES
from model.attention.cpu.encode import Heads, LayerParameters, gap_cells, weight_panels
from model.attention.cpu.layers import LayerWeights
from model.attention.cpu.row_ops import (
    ROWS,
    Array,
    add_up,
    aligned,
    buffer,
    compiled,
    copy,
    gate,
    norm,
    product,
    product_by_panels,
    silu,
    transpose,
    weigh,
)
from model.attention.cpu.sequence import AttentionSpec

_ONE: Final = np.float32(1)


class Gaps(NamedTuple):
    """What the bias reads of the new rows' pairs with all keys that they see, row by row; empty where unused."""

    buckets: Array  # u8
    log_gaps: Array  # f32[1, pairs]


class ExtendBuffers(NamedTuple):
    """Buffers for m new tokens of n."""

    x: Array  # [m, D], normed, then what is added to x
    a: Array  # [m, E]
    y: Array  # [m, V]
    past: Array  # [n, W], a layer's state
    keys: Array  # [H, d_qk, n], transposed
    bias: Array  # [ROWS, n]
    scores: Array  # [ROWS, n], then weights
    o: Array  # [ROWS, V]


class Extender:
    """The layers of one encoder, whose weights stay as they are.

    Args:
        layers: Their weights, float32 on the CPU.
        biases: Their biases.
        heads: The shape of their heads.
        activation: A name of `dispatch.ACTIVATIONS`.
        bias: A name of `dispatch.BIASES`.
        max_len: The longest sequence.
    """

    def __init__(
        self,
        layers: Sequence[LayerParameters],
        biases: Sequence[BiasTerms | None],
        heads: Heads,
        *,
        activation: str,
        bias: str,
        max_len: int,
    ) -> None:
        shape = heads.count, heads.d_qk, heads.d_v, np.float32(heads.alpha), np.float32(heads.eps)
        self._spec = AttentionSpec(BIASES.index(bias), ACTIVATIONS.index(activation), max_len, *shape)
        w_uvqk, w_out, b_out = (
            torch.stack(parts).detach()
            for parts in ([own.w_uvqk for own in layers], [own.w_out for own in layers], [own.b_out for own in layers])
        )
        tables = [own or BiasTerms(w_out.new_empty(0), w_out.new_empty(0), None) for own in biases]
        positions, times = (
            torch.stack(parts).detach().numpy()
            for parts in ([own.positions for own in tables], [own.times for own in tables])
        )
        self._weights = LayerWeights(positions, times, weight_panels(w_uvqk), weight_panels(w_out.mT))
        self._b_out: Array = b_out.numpy()
        self.width = heads.count * (heads.d_v + heads.d_qk)  # W

    def extend(
        self, x_mD: Tensor, known_SpW: NDArray[np.float32], ts_ms_n: NDArray[np.int64], asked_ms_n: NDArray[np.int64]
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """Return the encoder's output at the new tokens, [m, D], and the state of all tokens, [S, n, W].

        Args:
            x_mD: The embedded new tokens, one at least.
            known_SpW: The state of the first p tokens, a multiple of ROWS.
            ts_ms_n: Times of all tokens.
            asked_ms_n: The times from which they look back.

        Raises:
            ValueError: The shapes do not fit one another: compiled loops check no bounds.
        """
        (m, dim), (layers, p), n = x_mD.shape, known_SpW.shape[:2], len(ts_ms_n)
        shape = (len(self._b_out), n - m, self.width)
        if known_SpW.shape != shape or p % ROWS or len(asked_ms_n) != n or dim != self._b_out.shape[1] or not m:
            raise ValueError(f"{m} tokens of width {dim} cannot follow a state {known_SpW.shape} of {n} times")
        if n > self._spec.max_len:
            raise ValueError(f"{n} tokens are more than max_len {self._spec.max_len}")
        state = aligned(layers, n, self.width)
        state[:, :p] = known_SpW
        spec, x_mD = self._spec, x_mD.contiguous()
        out, gaps = torch.empty_like(x_mD), self._gaps(p, ts_ms_n / 1000, asked_ms_n / 1000)
        v, e = spec.heads * spec.d_v, 2 * spec.heads * (spec.d_qk + spec.d_v)
        shapes = (
            (m, dim),
            (m, e),
            (m, v),
            (n, self.width),
            (spec.heads, spec.d_qk, n),
            (ROWS, n),
            (ROWS, n),
            (ROWS, v),
        )
        buffers = ExtendBuffers(*(buffer(*shape) for shape in shapes))
        _extend(x_mD.numpy(), out.numpy(), state, p, gaps, spec, self._weights, self._b_out, buffers)
        return out, state

    def _gaps(self, p: int, ts_s_n: NDArray[np.float64], asked_s_n: NDArray[np.float64]) -> Gaps:
        n, kind = len(ts_s_n), self._spec.kind
        pairs = n * (n + 1) // 2 - p * (p + 1) // 2
        gaps = Gaps(
            np.empty(pairs if kind == BUCKETED else 0, np.uint8),
            np.empty((1, pairs if kind == FUNCTIONAL else 0), np.float32),
        )
        if kind == BUCKETED:
            _measure_buckets(p, gaps.buckets, asked_s_n, ts_s_n, np.empty(n, np.float32), *gap_cells())
        elif kind == FUNCTIONAL:
            _measure_log_gaps(p, gaps.log_gaps, asked_s_n, ts_s_n)
        else:
            assert kind == NONE
        return gaps


@compiled
def _measure_buckets(
    p: int, buckets: Array, asked_s: Array, ts_s: Array, gaps: Array, cells: Array, edges: Array
) -> None:
    """Write the bucket of each pair of the rows from p on."""
    at: Any = np.int64(0)
    for i in range(p, len(ts_s)):
        row_buckets(buckets[at:], asked_s[i], ts_s, i + 1, gaps, cells, edges)
        at += i + 1


@compiled
def _measure_log_gaps(p: int, log_gaps: Array, asked_s: Array, ts_s: Array) -> None:
    """Write ln(max(gap, 1)) of each pair of the rows from p on."""
    at: Any = np.int64(0)
    for i in range(p, len(ts_s)):
        for j in range(i + 1):
            log_gaps[0, at + j] = np.log(max(np.float32(abs(asked_s[i] - ts_s[j])), _ONE))
        at += i + 1


@compiled
def _extend(
    first: Array, out: Array, state: Array, p: int, gaps: Gaps, spec: AttentionSpec, weights: LayerWeights,
    b_out: Array, buffers: ExtendBuffers,
) -> None:  # fmt: skip
    """Write the last layer's output at the new tokens, and the new tokens' part of the state."""
    layers, dim = b_out.shape
    m = len(first)
    for s in range(layers):
        before = first if s == 0 else out
        pairs = GapPairs(gaps.buckets, gaps.log_gaps, weights.positions, weights.times, s)
        for r in range(m):
            norm(buffers.x, r, before, r, dim, spec.eps)
        product_by_panels(buffers.a, buffers.x, weights.w_uvqk[s], m)
        for r in range(m):
            silu(buffers.a, r, 2 * spec.heads * (spec.d_qk + spec.d_v))
        _remember(state[s], p, m, spec, buffers)
        _attend(p, m, pairs, spec, buffers)
        product_by_panels(buffers.x, buffers.y, weights.w_out[s], m)
        for r in range(m):
            add_up(out, r, before, r, buffers.x, r, b_out, s)


@compiled
def _remember(state: Array, p: int, m: int, spec: AttentionSpec, buffers: ExtendBuffers) -> None:
    """Bring a layer's state of all tokens into the buffers, and write that of the new ones to `state`."""
    past, a = buffers.past, buffers.a
    v, k = spec.heads * spec.d_v, spec.heads * spec.d_qk
    for r in range(p):
        copy(past, r, state, r, v + k)
    for r in range(m):
        copy(past, p + r, a[:, v:], r, v)
        copy(past[:, v:], p + r, a[:, 2 * v + k :], r, k)
        copy(state, p + r, past, p + r, v + k)
    for j in range(0, p + m, ROWS):
        for h in range(spec.heads):
            transpose(buffers.keys[h], j, past, j, v + h * spec.d_qk, spec.d_qk)


@compiled
def _attend(p: int, m: int, pairs: GapPairs, spec: AttentionSpec, buffers: ExtendBuffers) -> None:
    """Write y = u * norm(o) of the new tokens to the buffers."""
    a, width = buffers.a, spec.heads * spec.d_v
    at: Any = np.int64(0)
    for i in range(0, m, ROWS):
        rows, place = min(ROWS, m - i), p + i
        bias_rows(buffers.bias, place, rows, pairs, at, spec.kind)
        at += rows * place + rows * (rows + 1) // 2
        for h in range(spec.heads):
            product(buffers.scores, a[i:, 2 * width + h * spec.d_qk :], buffers.keys[h], rows, place + ROWS, spec.d_qk)
            weigh(buffers.scores, buffers.bias, place, rows, spec.alpha, spec.phi, spec.max_len)
            past = buffers.past[:, h * spec.d_v :]
            product(buffers.o[:, h * spec.d_v :], buffers.scores, past, rows, spec.d_v, place + rows)
        for r in range(rows):
            gate(buffers.y, buffers.o, a, i + r, r, width, spec.eps)
