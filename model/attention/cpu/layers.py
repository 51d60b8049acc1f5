"""All layers over one thread's share of a batch's sequences, forward and backward, compiled. The formula of a layer
is that of model/network/encoders/hstu.py:

    z = norm(x) @ W;  u, v, q, k = split(silu(z));  y = u * norm(attention);  x' = y @ W_outᵀ + b + x

S layers, L tokens of the batch, D width of x, E of z, V of y; n tokens of a group. A group is some whole sequences,
processed together because products with weights are cheaper in larger pieces. Its z, y and gradients lie in buffers.
What the backward needs, each layer's x, z and o, is saved at the tokens' own rows. Weights come in panels,
[columns / LANES, k, LANES], so that a tile reads memory in order.
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
from model.attention.cpu.sequence import AttentionSpec, BackwardBuffers, Buffers, attend_sequence, attend_sequence_back


class ThreadShare(NamedTuple):
    """The sequences of one thread, none of them empty, and their places in the batch."""

    sequences: Array  # i64
    groups: Array  # i64, the first sequence of each group, then the number of sequences
    tokens: Array  # i64 rows of their tokens in the batch, one sequence after another
    lengths: Array  # i64[B]
    pair_starts: Array  # i64[B]
    buckets: Array  # of pairs, see bias.py
    log_gaps: Array  # of pairs


class LayerWeights(NamedTuple):
    """All layers' tables of the bias, and panels of their weights."""

    positions: Array
    times: Array
    w_uvqk: Array  # in the backward transposed
    w_out: Array  # in the forward transposed


class SavedForBackward(NamedTuple):
    """Values of each layer that the backward needs, at the tokens' own rows; empty if there will be no backward."""

    x: Array  # [S - 1, L, D], inputs of all layers but the first; never fewer than one
    z: Array  # [S, L, E]
    o: Array  # [S, L, V]


class WeightGradients(NamedTuple):
    """Gradients of all weights; a share adds its part."""

    w_uvqk: Array
    w_out: Array
    b_out: Array
    positions: Array
    times: Array


@compiled
def forward(
    share: ThreadShare, spec: AttentionSpec, weights: LayerWeights, b_out: Array, first: Array, out: Array,
    saved: SavedForBackward, keep: int, buffers: Buffers,
) -> None:  # fmt: skip
    """Write the last layer's output and, if `keep` is 1, what the backward needs of each layer."""
    layers, dim = b_out.shape
    for s in range(layers):
        before = first if s == 0 else saved.x[(s - 1) * keep]
        after = out if s == layers - 1 else saved.x[s * keep]
        z, o = saved.z[s * keep], saved.o[s * keep]
        pairs = GapPairs(share.buckets, share.log_gaps, weights.positions, weights.times, s)
        done: Any = np.int64(0)  # numba gives a literal another type
        for group in range(len(share.groups) - 1):
            own = share.sequences[share.groups[group] : share.groups[group + 1]]
            n = _tokens(own, share.lengths)
            tokens = share.tokens[done : done + n]
            for r in range(n):
                norm(buffers.x, r, before, tokens[r], dim, spec.eps)
            product_by_panels(buffers.a, buffers.x, weights.w_uvqk[s], n)
            for r in range(n):
                if keep:
                    copy(z, tokens[r], buffers.a, r, z.shape[1])
                silu(buffers.a, r, z.shape[1])
            row: Any = np.int64(0)
            for b in own:
                attend_sequence(o, keep, row, tokens[row], share.lengths[b], share.pair_starts[b], pairs, spec, buffers)
                row += share.lengths[b]
            product_by_panels(buffers.x, buffers.y, weights.w_out[s], n)
            for r in range(n):
                add_up(after, tokens[r], before, tokens[r], buffers.x, r, b_out, s)
            done += n


@compiled
def backward(
    share: ThreadShare, spec: AttentionSpec, weights: LayerWeights, first: Array, saved: SavedForBackward,
    g_out: Array, gx: Array, gradients: WeightGradients, buffers: BackwardBuffers,
) -> None:  # fmt: skip
    """Write the gradient of x and add to those of all weights."""
    layers, dim = gradients.b_out.shape
    for s in range(layers - 1, -1, -1):
        before = first if s == 0 else saved.x[s - 1]
        above = g_out if s == layers - 1 else gx
        z, o = saved.z[s], saved.o[s]
        pairs = GapPairs(share.buckets, share.log_gaps, weights.positions, weights.times, s)
        done: Any = np.int64(0)
        for group in range(len(share.groups) - 1):
            own = share.sequences[share.groups[group] : share.groups[group + 1]]
            n = _tokens(own, share.lengths)
            tokens = share.tokens[done : done + n]
            for r in range(n):
                buffers.scales[0, r] = norm(buffers.x, r, before, tokens[r], dim, spec.eps)
                load_slopes(buffers.a, buffers.g_z, r, z, tokens[r])
                copy(buffers.g, r, above, tokens[r], dim)
                add_row(gradients.b_out, s, buffers.g, r)
            product_by_panels(buffers.g_y, buffers.g, weights.w_out[s], n)
            row: Any = np.int64(0)
            for b in own:
                places = row, tokens[row], share.lengths[b], share.pair_starts[b]
                attend_sequence_back(o, *places, pairs, gradients.positions, gradients.times, spec, buffers)
                row += share.lengths[b]
            add_to_panels(gradients.w_out[s], buffers.g.T, buffers.y, dim, n)
            add_to_panels(gradients.w_uvqk[s], buffers.x.T, buffers.g_z, dim, n)
            product_by_panels(buffers.g_x, buffers.g_z, weights.w_uvqk[s], n)
            for r in range(n):
                norm_back(buffers.g, buffers.g_x, buffers.x, r, dim, buffers.scales[0, r])
                copy(gx, tokens[r], buffers.g, r, dim)
            done += n


@compiled
def _tokens(sequences: Array, lengths: Array) -> Any:
    n: Any = np.int64(0)
    for b in sequences:
        n += lengths[b]
    return n
