"""All layers over one thread's share of a batch's sequences, forward and backward: model/network/encoders/hstu.py's
formula, compiled.

    z = norm(x) @ W;  u, v, q, k = split(silu(z));  y = u * norm(attention);  x' = y @ W_outᵀ + b + x

S layers, L tokens of the batch, D width of x, E of z, V of y; n tokens of a group: whole sequences, one after another,
that are taken together so that products with weights are worth their start. A group's z, y and gradients lie in
buffers; what the backward wants is kept at the tokens' own rows: each layer's x, z and o. Weights come in panels:
[columns / LANES, k, LANES], so that a tile reads one after another.
"""

from typing import Any, NamedTuple

import numpy as np

from model.attention.cpu.bias import GapPairs
from model.attention.cpu.row_ops import (
    Array,
    add_row,
    add_to_panels,
    add_up,
    compiled,
    copy,
    load_slopes,
    norm,
    norm_back,
    product_by_panels,
    silu,
)
from model.attention.cpu.sequence import Form, Room, RoomBack, attend, attend_back


class Share(NamedTuple):
    """The sequences of one thread, none of them empty, and where they are."""

    sequences: Array  # i64
    groups: Array  # i64, the first sequence of each, then the number of sequences
    tokens: Array  # i64 rows of their tokens in the batch, one sequence after another
    lengths: Array  # i64[B]
    pair_starts: Array  # i64[B]
    buckets: Array  # of pairs, as bias.py says
    log_gaps: Array


class LayerWeights(NamedTuple):
    """Of all layers: tables of the bias, and panels."""

    positions: Array
    times: Array
    w_uvqk: Array  # in the backward transposed
    w_out: Array  # in the forward transposed


class Kept(NamedTuple):
    """What the backward wants of each layer, at the tokens' own rows; nothing where there is none."""

    x: Array  # [S - 1, L, D] of all layers but the first; always one at least
    z: Array  # [S, L, E]
    o: Array  # [S, L, V]


class Sums(NamedTuple):
    """Gradients of all weights, that a share adds to."""

    w_uvqk: Array
    w_out: Array
    b_out: Array
    positions: Array
    times: Array


@compiled
def forward(
    share: Share, form: Form, weights: LayerWeights, b_out: Array, first: Array, out: Array, kept: Kept, keep: int,
    room: Room,
) -> None:  # fmt: skip
    """Write the last layer's output and, if `keep` is 1, what the backward wants of each."""
    layers, dim = b_out.shape
    for s in range(layers):
        before = first if s == 0 else kept.x[(s - 1) * keep]
        after = out if s == layers - 1 else kept.x[s * keep]
        z, o = kept.z[s * keep], kept.o[s * keep]
        pairs = GapPairs(share.buckets, share.log_gaps, weights.positions, weights.times, s)
        done: Any = np.int64(0)  # a literal would be a type of its own
        for group in range(len(share.groups) - 1):
            own = share.sequences[share.groups[group] : share.groups[group + 1]]
            n = _tokens(own, share.lengths)
            tokens = share.tokens[done : done + n]
            for r in range(n):
                norm(room.x, r, before, tokens[r], dim, form.eps)
            product_by_panels(room.a, room.x, weights.w_uvqk[s], n)
            for r in range(n):
                if keep:
                    copy(z, tokens[r], room.a, r, z.shape[1])
                silu(room.a, r, z.shape[1])
            row: Any = np.int64(0)
            for b in own:
                attend(o, keep, row, tokens[row], share.lengths[b], share.pair_starts[b], pairs, form, room)
                row += share.lengths[b]
            product_by_panels(room.x, room.y, weights.w_out[s], n)
            for r in range(n):
                add_up(after, tokens[r], before, tokens[r], room.x, r, b_out, s)
            done += n


@compiled
def backward(
    share: Share, form: Form, weights: LayerWeights, first: Array, kept: Kept, g_out: Array, gx: Array, sums: Sums,
    room: RoomBack,
) -> None:  # fmt: skip
    """Write the gradient of x and add to those of all weights."""
    layers, dim = sums.b_out.shape
    for s in range(layers - 1, -1, -1):
        before = first if s == 0 else kept.x[s - 1]
        above = g_out if s == layers - 1 else gx
        z, o = kept.z[s], kept.o[s]
        pairs = GapPairs(share.buckets, share.log_gaps, weights.positions, weights.times, s)
        done: Any = np.int64(0)
        for group in range(len(share.groups) - 1):
            own = share.sequences[share.groups[group] : share.groups[group + 1]]
            n = _tokens(own, share.lengths)
            tokens = share.tokens[done : done + n]
            for r in range(n):
                room.scales[0, r] = norm(room.x, r, before, tokens[r], dim, form.eps)
                load_slopes(room.a, room.g_z, r, z, tokens[r])
                copy(room.g, r, above, tokens[r], dim)
                add_row(sums.b_out, s, room.g, r)
            product_by_panels(room.g_y, room.g, weights.w_out[s], n)
            row: Any = np.int64(0)
            for b in own:
                places = row, tokens[row], share.lengths[b], share.pair_starts[b]
                attend_back(o, *places, pairs, sums.positions, sums.times, form, room)
                row += share.lengths[b]
            add_to_panels(sums.w_out[s], room.g.T, room.y, dim, n)
            add_to_panels(sums.w_uvqk[s], room.x.T, room.g_z, dim, n)
            product_by_panels(room.g_x, room.g_z, weights.w_uvqk[s], n)
            for r in range(n):
                norm_back(room.g, room.g_x, room.x, r, dim, room.scales[0, r])
                copy(gx, tokens[r], room.g, r, dim)
            done += n


@compiled
def _tokens(sequences: Array, lengths: Array) -> Any:
    n: Any = np.int64(0)
    for b in sequences:
        n += lengths[b]
    return n
