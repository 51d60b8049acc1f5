"""The gated attention of one sequence on a CPU, forward and backward, in compiled loops. All data fit into the core's
caches.

n tokens of the sequence, which begins at row `row` of a = silu(z); d width of a head, E width of z, V = H * d_v. Scores
and weights exist for a block of ROWS rows at a time. A block computes the bias of all pairs, then for each head the
scores, the weights and the outputs. The bias's gradient is summed over the heads before it is added to the tables.
"""

from typing import Any, NamedTuple

import numpy as np

from model.attention.cpu.bias import NONE, GapPairs, bias_back, bias_rows
from model.attention.cpu.row_ops import (
    ROWS,
    Array,
    add_product,
    buffer,
    clear,
    compiled,
    copy,
    gate,
    gate_back,
    multiply,
    product,
    sum_heads,
    transpose,
    weigh,
    weigh_back,
)

_ONE = np.float32(1)


class AttentionSpec(NamedTuple):
    """The shape and kind of a layer's attention."""

    kind: int  # of bias: NONE, BUCKETED or FUNCTIONAL
    phi: int  # activation: SILU, SILU_SEEN or SOFTMAX
    max_len: int
    heads: int
    d_qk: int
    d_v: int
    alpha: Any  # f32
    eps: Any  # f32, of every norm


class Buffers(NamedTuple):
    """Buffers of the forward, for groups of up to n tokens."""

    x: Array  # [n, D], normed, then what is added to x
    a: Array  # [n, E]
    y: Array  # [n, V]
    keys: Array  # [H, d_qk, n], transposed
    bias: Array  # [ROWS, n]
    scores: Array  # [ROWS, n], then weights
    o: Array  # [ROWS, V]


class BackwardBuffers(NamedTuple):
    """Buffers of the backward, for groups of up to n tokens; names with g_ are gradients."""

    x: Array  # [n, D], normed
    scales: Array  # [1, n], of the norm
    a: Array  # [n, E]
    y: Array  # [n, V]
    g: Array  # [n, D]
    g_x: Array  # [n, D], of the normed x
    g_z: Array  # [n, E], first the slopes of silu
    g_y: Array  # [n, V]
    keys: Array  # [H, d_qk, n], transposed
    values: Array  # [H, d_v, n], transposed
    g_keys: Array  # [H, n, d_qk]
    g_values: Array  # [H, n, d_v]
    bias: Array  # [ROWS, n]
    g_bias: Array  # [ROWS, n], summed over heads
    scores: Array  # [ROWS, n], then weights
    g_scores: Array  # [ROWS, n], first the gradients of the weights
    g_o: Array  # [ROWS, V]
    g_q: Array  # [ROWS, d_qk]


def make_buffers(n: int, dim: int, spec: AttentionSpec) -> Buffers:
    """Allocate the buffers of the forward."""
    v, e = spec.heads * spec.d_v, 2 * spec.heads * (spec.d_qk + spec.d_v)
    keys = buffer(spec.heads, spec.d_qk, n)
    return Buffers(buffer(n, dim), buffer(n, e), buffer(n, v), keys, buffer(ROWS, n), buffer(ROWS, n), buffer(ROWS, v))


def make_backward_buffers(n: int, dim: int, spec: AttentionSpec) -> BackwardBuffers:
    """Allocate the buffers of the backward."""
    heads, d_qk, d_v = spec.heads, spec.d_qk, spec.d_v
    v, e = heads * d_v, 2 * heads * (d_qk + d_v)
    shapes = (
        *((n, dim), (1, n), (n, e), (n, v), (n, dim), (n, dim), (n, e), (n, v)),
        *((heads, d_qk, n), (heads, d_v, n), (heads, n, d_qk), (heads, n, d_v)),
        *((ROWS, n), (ROWS, n), (ROWS, n), (ROWS, n), (ROWS, v), (ROWS, d_qk)),
    )
    return BackwardBuffers(*(buffer(*shape) for shape in shapes))


@compiled
def attend_sequence(
    o: Array, keep: int, row: int, own: int, n: int, at: int, pairs: GapPairs, spec: AttentionSpec, buffers: Buffers
) -> None:
    """Write y = u * norm(o) of a sequence to the buffers.

    The sequence begins at row `row` of the buffers, at token `own` of the batch and at pair `at`. If `keep` is 1, o is
    written to the tokens' rows.
    """
    a, y = buffers.a, buffers.y
    d_qk, d_v, width = spec.d_qk, spec.d_v, spec.heads * spec.d_v
    for i in range(0, n, ROWS):
        rows, first = min(ROWS, n - i), row + i
        bias_rows(buffers.bias, i, rows, pairs, at + i * (i + 1) // 2, spec.kind)
        for h in range(spec.heads):
            v, q, k = width + h * d_v, 2 * width + h * d_qk, 2 * width + (spec.heads + h) * d_qk
            transpose(buffers.keys[h], i, a, first, k, d_qk)
            product(buffers.scores, a[first:, q:], buffers.keys[h], rows, i + ROWS, d_qk)
            weigh(buffers.scores, buffers.bias, i, rows, spec.alpha, spec.phi, spec.max_len)
            product(buffers.o[:, h * d_v :], buffers.scores, a[row:, v:], rows, d_v, i + rows)
        for r in range(rows):
            gate(y, buffers.o, a, first + r, r, width, spec.eps)
            if keep:
                copy(o, own + i + r, buffers.o, r, width)


@compiled
def attend_sequence_back(
    o: Array, row: int, own: int, n: int, at: int, pairs: GapPairs, g_positions: Array, g_times: Array,
    spec: AttentionSpec, buffers: BackwardBuffers,
) -> None:  # fmt: skip
    """Compute y and the scores again, multiply the gradients of a into g_z, and add to the gradients of the bias."""
    a, g_z = buffers.a, buffers.g_z
    d_qk, d_v, width = spec.d_qk, spec.d_v, spec.heads * spec.d_v
    for h in range(spec.heads):
        clear(buffers.g_keys[h], n, d_qk)
        clear(buffers.g_values[h], n, d_v)
    for i in range(0, n, ROWS):
        rows, first, pair = min(ROWS, n - i), row + i, at + i * (i + 1) // 2
        bias_rows(buffers.bias, i, rows, pairs, pair, spec.kind)
        for r in range(rows):
            gate_back(buffers.y, g_z, buffers.g_o, buffers.g_y, o, a, first + r, own + i + r, r, width, spec.eps)
        for h in range(spec.heads):
            v, q, k = width + h * d_v, 2 * width + h * d_qk, 2 * width + (spec.heads + h) * d_qk
            q_rd, go_rd = a[first:, q:], buffers.g_o[:, h * d_v :]
            transpose(buffers.keys[h], i, a, first, k, d_qk)
            transpose(buffers.values[h], i, a, first, v, d_v)
            product(buffers.scores, q_rd, buffers.keys[h], rows, i + ROWS, d_qk)
            product(buffers.g_scores, go_rd, buffers.values[h], rows, i + ROWS, d_v)
            weigh_back(buffers.scores, buffers.bias, buffers.g_scores, i, rows, spec.alpha, spec.phi, spec.max_len)
            if spec.kind != NONE:
                sum_heads(buffers.g_bias, buffers.g_scores, h, rows, i + ROWS)
            product(buffers.g_q, buffers.g_scores, a[row:, k:], rows, d_qk, i + rows)
            multiply(g_z, first, q, buffers.g_q, rows, d_qk, spec.alpha)
            add_product(buffers.g_keys[h], buffers.g_scores.T, q_rd, i + rows, d_qk, rows)
            add_product(buffers.g_values[h], buffers.scores.T, go_rd, i + rows, d_v, rows)
        if spec.kind != NONE:
            bias_back(buffers.g_bias, i, rows, pairs, pair, spec.kind, g_positions, g_times)
    for h in range(spec.heads):
        multiply(g_z, row, 2 * width + (spec.heads + h) * d_qk, buffers.g_keys[h], n, d_qk, spec.alpha)
        multiply(g_z, row, width + h * d_v, buffers.g_values[h], n, d_v, _ONE)
