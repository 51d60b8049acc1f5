"""All layers over one thread's share of a batch's sequences, forward and backward: model/hstu.py's formula, compiled.

    z = norm(x) @ W;  u, v, q, k = split(silu(z));  y = u * norm(attention);  x' = y @ W_outᵀ + b + x

S layers, L tokens of the batch, D width of x, E of z, V of y; n tokens of a group: whole sequences, one after another,
that are taken together so that products with weights are worth their start. A group's z, y and gradients lie in
buffers; what the backward wants is kept at the tokens' own rows: each layer's x, z and o. Weights come in panels:
[columns / LANES, k, LANES], so that a tile reads one after another.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from model.attention.cpu_kernels import (
    Array,
    add_to_panels,
    buffer,
    compiled,
    copy,
    load_slopes,
    norm,
    norm_back,
    product_by_panels,
    silu,
)
from model.attention.cpu_passes import Form, Pairs, attend, attend_back, room_back_for, room_for

GROUP: Final = 128  # tokens of a group at most, but for a sequence that is longer by itself


class Share(NamedTuple):
    """The sequences of one thread, and where they are."""

    sequences: Array  # i64
    tokens: Array  # i64 rows of their tokens in the batch, one sequence after another
    lengths: Array  # i64[B]
    pair_starts: Array  # i64[B]
    pairs: Array  # f32, as cpu_bias.py says


@compiled
def forward(
    share: Share, form: Form, positions: Array, times: Array, w_uvqk: Array, w_out: Array, b_out: Array,
    x_LD: Array, out_LD: Array, x_SLD: Array, z_SLE: Array, o_SLV: Array, keep: int,
) -> None:  # fmt: skip
    """Write the last layer's output and, if `keep` is 1, what the backward wants of each; x_SLD has a layer anyway."""
    layers, d = b_out.shape
    e, v, wide = 2 * form.heads * (form.d_qk + form.d_v), form.heads * form.d_v, _widest(share)
    x_nD, a_nE, y_nV, o_nV = buffer(wide, d), buffer(wide, e), buffer(wide, v), buffer(wide, v)
    room = room_for(wide, form)
    for s in range(layers):
        before = x_LD if s == 0 else x_SLD[(s - 1) * keep]
        after = out_LD if s == layers - 1 else x_SLD[s * keep]
        bias = Pairs(share.pairs, positions[s], times[s])
        start = done = 0
        while start < len(share.sequences):
            end, n = _group(share, start)
            tokens = share.tokens[done : done + n]
            for r in range(n):
                norm(x_nD[r, :d], before[tokens[r]], form.eps)
            product_by_panels(a_nE, x_nD, w_uvqk[s], n)
            for r in range(n):
                if keep:
                    copy(z_SLE[s, tokens[r]], a_nE[r], e)
                silu(a_nE[r], e)
            row: Any = np.int64(0)  # a literal would be a type of its own, and attend be compiled twice
            for b in share.sequences[start:end]:
                attend(y_nV, o_nV, a_nE, row, share.lengths[b], share.pair_starts[b], bias, form, room)
                row += share.lengths[b]
            product_by_panels(x_nD, y_nV, w_out[s], n)
            for r in range(n):
                if keep:
                    copy(o_SLV[s, tokens[r]], o_nV[r], v)
                for c in range(d):
                    after[tokens[r], c] = before[tokens[r], c] + x_nD[r, c] + b_out[s, c]
            start, done = end, done + n


@compiled
def backward(
    share: Share, form: Form, positions: Array, times: Array, w_uvqk: Array, w_out: Array,
    x_LD: Array, x_SLD: Array, z_SLE: Array, o_SLV: Array, g_LD: Array, gx_LD: Array,
    gw_uvqk: Array, gw_out: Array, gb_out: Array, g_positions: Array, g_times: Array,
) -> None:  # fmt: skip
    """Write the gradient of x and add to those of all weights; w_uvqk comes transposed, w_out as it is."""
    layers, d = gb_out.shape
    e, v, wide = 2 * form.heads * (form.d_qk + form.d_v), form.heads * form.d_v, _widest(share)
    x_nD, g_nD, gn_nD, scale_n = buffer(wide, d), buffer(wide, d), buffer(wide, d), np.empty(wide, np.float32)
    a_nE, gz_nE = buffer(wide, e), buffer(wide, e)
    y_nV, gy_nV, o_nV = buffer(wide, v), buffer(wide, v), buffer(wide, v)
    room = room_back_for(wide, form)
    for s in range(layers - 1, -1, -1):
        before = x_LD if s == 0 else x_SLD[s - 1]
        above = g_LD if s == layers - 1 else gx_LD
        bias = Pairs(share.pairs, positions[s], times[s])
        start = done = 0
        while start < len(share.sequences):
            end, n = _group(share, start)
            tokens = share.tokens[done : done + n]
            for r in range(n):
                t = tokens[r]
                scale_n[r] = norm(x_nD[r, :d], before[t], form.eps)
                load_slopes(a_nE[r], gz_nE[r], z_SLE[s, t])
                copy(o_nV[r], o_SLV[s, t], v)
                for c in range(d):
                    g_nD[r, c] = above[t, c]
                    gb_out[s, c] += above[t, c]
            product_by_panels(gy_nV, g_nD, w_out[s], n)
            row: Any = np.int64(0)
            for b in share.sequences[start:end]:
                attend_back(
                    gz_nE, y_nV, gy_nV, o_nV, a_nE, row, share.lengths[b], share.pair_starts[b],
                    bias, g_positions[s], g_times[s], form, room,
                )  # fmt: skip
                row += share.lengths[b]
            add_to_panels(gw_out[s], g_nD.T, y_nV, d, n)
            add_to_panels(gw_uvqk[s], x_nD.T, gz_nE, d, n)
            product_by_panels(gn_nD, gz_nE, w_uvqk[s], n)
            for r in range(n):
                norm_back(g_nD[r, :d], gn_nD[r, :d], x_nD[r, :d], scale_n[r])
                copy(gx_LD[tokens[r]], g_nD[r], d)
            start, done = end, done + n


@compiled
def _group(share: Share, start: int) -> tuple[int, int]:
    """Give where the group that begins at a sequence ends, and its number of tokens."""
    end, n = start, 0
    while end < len(share.sequences) and (end == start or n + share.lengths[share.sequences[end]] <= GROUP):
        n += share.lengths[share.sequences[end]]
        end += 1
    return end, n


@compiled
def _widest(share: Share) -> int:
    most = start = 0
    while start < len(share.sequences):
        start, n = _group(share, start)
        most = max(most, n)
    return most
