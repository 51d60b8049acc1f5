"""The gated attention of one sequence on a CPU, forward and backward, in compiled loops: all in the core's caches.

n tokens of the sequence, from row `row` of a = silu(z) on; d of a head, E = width of z, V = H * d_v. Scores and weights
exist for ROWS rows at a time. For each block: the bias of all pairs, then for each head products, weights, products;
the bias's gradient is summed over the heads before it is added to the tables.
"""

from typing import Any, NamedTuple

import numpy as np

from model.attention.cpu_bias import NONE, bias_back, bias_rows
from model.attention.cpu_kernels import (
    ROWS,
    Array,
    add_product,
    buffer,
    clear,
    compiled,
    copy,
    extent,
    gate,
    gate_back,
    multiply,
    product,
    transpose,
    weigh,
    weigh_back,
)

_ONE = np.float32(1)


class Form(NamedTuple):
    """What the loops know of a layer's attention."""

    kind: int  # of bias
    phi: int  # activation
    max_len: int
    heads: int
    d_qk: int
    d_v: int
    alpha: Any  # f32
    eps: Any  # f32, of every norm


class Pairs(NamedTuple):
    """The bias of one layer: what is known of all pairs, and its tables."""

    pairs: Array
    positions: Array
    times: Array


class Room(NamedTuple):
    """Buffers of the forward of one sequence of up to n tokens."""

    keys: Array  # [H, d_qk, n], transposed
    bias: Array  # [ROWS, n]
    scores: Array  # [ROWS, n], then weights
    o: Array  # [ROWS, V]


class RoomBack(NamedTuple):
    """Buffers of the backward; g_ are gradients."""

    keys: Array  # [H, d_qk, n], transposed
    values: Array  # [H, d_v, n], transposed
    g_keys: Array  # [H, n, d_qk]
    g_values: Array  # [H, n, d_v]
    bias: Array  # [ROWS, n]
    g_bias: Array  # [ROWS, n], summed over heads
    scores: Array  # [ROWS, n], then weights
    g_scores: Array  # [ROWS, n], at first of the weights
    g_o: Array  # [ROWS, V]
    g_q: Array  # [ROWS, d_qk]


@compiled
def room_for(n: int, form: Form) -> Room:
    """Make room for the forward of sequences of up to n tokens."""
    keys = _buffers(form.heads, form.d_qk, n)
    return Room(keys, buffer(ROWS, n), buffer(ROWS, n), buffer(ROWS, form.heads * form.d_v))


@compiled
def room_back_for(n: int, form: Form) -> RoomBack:
    """Make room for the backward of sequences of up to n tokens."""
    heads, d_qk, d_v = form.heads, form.d_qk, form.d_v
    return RoomBack(
        _buffers(heads, d_qk, n),
        _buffers(heads, d_v, n),
        _buffers(heads, n, d_qk),
        _buffers(heads, n, d_v),
        buffer(ROWS, n),
        buffer(ROWS, n),
        buffer(ROWS, n),
        buffer(ROWS, n),
        buffer(ROWS, heads * d_v),
        buffer(ROWS, d_qk),
    )


@compiled
def attend(
    y_nD: Array, o_nD: Array, a_nE: Array, row: int, n: int, at: int, bias: Pairs, form: Form, room: Room
) -> None:
    """Write o and y = u * norm(o) of a sequence from row `row` of all three on; `at` is its first pair."""
    d_qk, d_v, width = form.d_qk, form.d_v, form.heads * form.d_v
    for i in range(0, n, ROWS):
        rows, first = min(ROWS, n - i), row + i
        bias_rows(room.bias, i, rows, bias.pairs, at, form.kind, bias.positions, bias.times)
        for h in range(form.heads):
            v, q, k = width + h * d_v, 2 * width + h * d_qk, 2 * width + (form.heads + h) * d_qk
            transpose(room.keys[h], i, a_nE, first, k, d_qk)
            product(room.scores, a_nE[first:, q:], room.keys[h], rows, i + ROWS, d_qk)
            weigh(room.scores, room.bias, i, rows, form.alpha, form.phi, form.max_len)
            product(room.o[:, h * d_v :], room.scores, a_nE[row:, v:], rows, d_v, i + rows)
        for r in range(rows):
            gate(y_nD[first + r], room.o[r, :width], a_nE[first + r], form.eps)
            copy(o_nD[first + r], room.o[r], width)
        at += rows * (i + 1) + rows * (rows - 1) // 2


@compiled
def attend_back(
    gz_nE: Array, y_nD: Array, gy_nD: Array, o_nD: Array, a_nE: Array, row: int, n: int, at: int,
    bias: Pairs, g_positions: Array, g_times: Array, form: Form, room: RoomBack,
) -> None:  # fmt: skip
    """Give y once more, multiply the gradients of a into gz, and add to those of the bias; scores are computed anew."""
    d_qk, d_v, width = form.d_qk, form.d_v, form.heads * form.d_v
    for h in range(form.heads):
        clear(room.g_keys[h], n + ROWS, room.g_keys.shape[2])
        clear(room.g_values[h], n + ROWS, room.g_values.shape[2])
    for i in range(0, n, ROWS):
        rows, first = min(ROWS, n - i), row + i
        bias_rows(room.bias, i, rows, bias.pairs, at, form.kind, bias.positions, bias.times)
        clear(room.g_bias, rows, i + ROWS)
        for r in range(rows):
            own = first + r
            gate_back(y_nD[own], gz_nE[own], room.g_o[r], gy_nD[own], o_nD[own, :width], a_nE[own], form.eps)
        for h in range(form.heads):
            v, q, k = width + h * d_v, 2 * width + h * d_qk, 2 * width + (form.heads + h) * d_qk
            q_rd, go_rd = a_nE[first:, q:], room.g_o[:, h * d_v :]
            transpose(room.keys[h], i, a_nE, first, k, d_qk)
            transpose(room.values[h], i, a_nE, first, v, d_v)
            product(room.scores, q_rd, room.keys[h], rows, i + ROWS, d_qk)
            product(room.g_scores, go_rd, room.values[h], rows, i + ROWS, d_v)
            weigh_back(room.scores, room.bias, room.g_scores, i, rows, form.alpha, form.phi, form.max_len)
            if form.kind != NONE:
                _add(room.g_bias, room.g_scores, rows, i + ROWS)
            product(room.g_q, room.g_scores, a_nE[row:, k:], rows, d_qk, i + rows)
            multiply(gz_nE, first, q, room.g_q, rows, d_qk, form.alpha)
            add_product(room.g_keys[h], room.g_scores.T, q_rd, i + rows, d_qk, rows)
            add_product(room.g_values[h], room.scores.T, go_rd, i + rows, d_v, rows)
        if form.kind != NONE:
            bias_back(room.g_bias, i, rows, bias.pairs, at, form.kind, bias.times, g_positions, g_times)
        at += rows * (i + 1) + rows * (rows - 1) // 2
    for h in range(form.heads):
        multiply(gz_nE, row, 2 * width + (form.heads + h) * d_qk, room.g_keys[h], n, d_qk, form.alpha)
        multiply(gz_nE, row, width + h * d_v, room.g_values[h], n, d_v, _ONE)


@compiled
def _add(out_rn: Array, a_rn: Array, rows: int, columns: int) -> None:
    for r in range(rows):
        for c in range(columns):
            out_rn[r, c] += a_rn[r, c]


@compiled
def _buffers(count: int, rows: int, columns: int) -> Array:
    tall, wide = extent(rows, columns)
    return np.zeros((count, tall, wide), np.float32)
