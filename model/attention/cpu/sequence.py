"""The gated attention of one sequence on a CPU, forward and backward, in compiled loops: all in the core's caches.

n tokens of the sequence, from row `row` of a = silu(z) on; d of a head, E = width of z, V = H * d_v. Scores and weights
exist for ROWS rows at a time. For each block: the bias of all pairs, then for each head products, weights, products;
the bias's gradient is summed over the heads before it is added to the tables.
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


class Room(NamedTuple):
    """Buffers of the forward for groups of up to n tokens."""

    x: Array  # [n, D], normed, then what is added to x
    a: Array  # [n, E]
    y: Array  # [n, V]
    keys: Array  # [H, d_qk, n], transposed
    bias: Array  # [ROWS, n]
    scores: Array  # [ROWS, n], then weights
    o: Array  # [ROWS, V]


class RoomBack(NamedTuple):
    """Buffers of the backward; g_ are gradients."""

    x: Array  # [n, D], normed
    scales: Array  # [1, n], of the norm
    a: Array  # [n, E]
    y: Array  # [n, V]
    g: Array  # [n, D]
    g_x: Array  # [n, D], of the normed x
    g_z: Array  # [n, E], at first slopes
    g_y: Array  # [n, V]
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


def room_for(n: int, dim: int, form: Form) -> Room:
    """Make room for the forward of groups of up to n tokens."""
    v, e = form.heads * form.d_v, 2 * form.heads * (form.d_qk + form.d_v)
    keys = buffer(form.heads, form.d_qk, n)
    return Room(buffer(n, dim), buffer(n, e), buffer(n, v), keys, buffer(ROWS, n), buffer(ROWS, n), buffer(ROWS, v))


def room_back_for(n: int, dim: int, form: Form) -> RoomBack:
    """Make room for the backward of groups of up to n tokens."""
    heads, d_qk, d_v = form.heads, form.d_qk, form.d_v
    v, e = heads * d_v, 2 * heads * (d_qk + d_v)
    shapes = (
        *((n, dim), (1, n), (n, e), (n, v), (n, dim), (n, dim), (n, e), (n, v)),
        *((heads, d_qk, n), (heads, d_v, n), (heads, n, d_qk), (heads, n, d_v)),
        *((ROWS, n), (ROWS, n), (ROWS, n), (ROWS, n), (ROWS, v), (ROWS, d_qk)),
    )
    return RoomBack(*(buffer(*shape) for shape in shapes))


@compiled
def attend(o: Array, keep: int, row: int, own: int, n: int, at: int, pairs: GapPairs, form: Form, room: Room) -> None:
    """Write y = u * norm(o) of a sequence that begins at row `row` of the room, its token `own` and its pair `at`.

    If `keep` is 1, o is written to the tokens' rows.
    """
    a, y = room.a, room.y
    d_qk, d_v, width = form.d_qk, form.d_v, form.heads * form.d_v
    for i in range(0, n, ROWS):
        rows, first = min(ROWS, n - i), row + i
        bias_rows(room.bias, i, rows, pairs, at + i * (i + 1) // 2, form.kind)
        for h in range(form.heads):
            v, q, k = width + h * d_v, 2 * width + h * d_qk, 2 * width + (form.heads + h) * d_qk
            transpose(room.keys[h], i, a, first, k, d_qk)
            product(room.scores, a[first:, q:], room.keys[h], rows, i + ROWS, d_qk)
            weigh(room.scores, room.bias, i, rows, form.alpha, form.phi, form.max_len)
            product(room.o[:, h * d_v :], room.scores, a[row:, v:], rows, d_v, i + rows)
        for r in range(rows):
            gate(y, room.o, a, first + r, r, width, form.eps)
            if keep:
                copy(o, own + i + r, room.o, r, width)


@compiled
def attend_back(
    o: Array, row: int, own: int, n: int, at: int, pairs: GapPairs, g_positions: Array, g_times: Array, form: Form,
    room: RoomBack,
) -> None:  # fmt: skip
    """Give y anew, multiply the gradients of a into g_z, and add to those of the bias; scores are computed anew."""
    a, g_z = room.a, room.g_z
    d_qk, d_v, width = form.d_qk, form.d_v, form.heads * form.d_v
    for h in range(form.heads):
        clear(room.g_keys[h], n, d_qk)
        clear(room.g_values[h], n, d_v)
    for i in range(0, n, ROWS):
        rows, first, pair = min(ROWS, n - i), row + i, at + i * (i + 1) // 2
        bias_rows(room.bias, i, rows, pairs, pair, form.kind)
        for r in range(rows):
            gate_back(room.y, g_z, room.g_o, room.g_y, o, a, first + r, own + i + r, r, width, form.eps)
        for h in range(form.heads):
            v, q, k = width + h * d_v, 2 * width + h * d_qk, 2 * width + (form.heads + h) * d_qk
            q_rd, go_rd = a[first:, q:], room.g_o[:, h * d_v :]
            transpose(room.keys[h], i, a, first, k, d_qk)
            transpose(room.values[h], i, a, first, v, d_v)
            product(room.scores, q_rd, room.keys[h], rows, i + ROWS, d_qk)
            product(room.g_scores, go_rd, room.values[h], rows, i + ROWS, d_v)
            weigh_back(room.scores, room.bias, room.g_scores, i, rows, form.alpha, form.phi, form.max_len)
            if form.kind != NONE:
                sum_heads(room.g_bias, room.g_scores, h, rows, i + ROWS)
            product(room.g_q, room.g_scores, a[row:, k:], rows, d_qk, i + rows)
            multiply(g_z, first, q, room.g_q, rows, d_qk, form.alpha)
            add_product(room.g_keys[h], room.g_scores.T, q_rd, i + rows, d_qk, rows)
            add_product(room.g_values[h], room.scores.T, go_rd, i + rows, d_v, rows)
        if form.kind != NONE:
            bias_back(room.g_bias, i, rows, pairs, pair, form.kind, g_positions, g_times)
    for h in range(form.heads):
        multiply(g_z, row, 2 * width + (form.heads + h) * d_qk, room.g_keys[h], n, d_qk, form.alpha)
        multiply(g_z, row, width + h * d_v, room.g_values[h], n, d_v, _ONE)
