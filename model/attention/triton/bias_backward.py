"""The backward kernels of a bias: the scores' gradients, summed over the heads, then by distance and by time.

The heads share a bias, so the gradient of a pair of row and key is a sum over them. A program of `pair_slopes` computes
it for one tile, writes it over the tile's bias, which nothing reads after it, and sums it by time bucket or parameter.
A bucketed bias is summed bucket by bucket, over those that the tile has: few, since times rise. A program of
`place_sums` then sums a share of the rows, for one block of distances. Programs share no output, so there are no
atomics.
"""
# mypy: disable-error-code="import-untyped,no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from model.attention.triton.backward import row_terms
from model.attention.triton.forward import UNSPECIALISED
from model.attention.triton.tile_ops import (
    BUCKETED,
    TIME_TERMS,
    buckets,
    decay,
    gaps_ms,
    load_rows,
    product,
    row_scales,
    sees,
    sees_any,
    span_of,
    tile_of,
    weights_and_slopes,
)


@triton.jit
def time_sums(slopes, seen, gap_ms, Times, Edges, BIAS: tl.constexpr):
    """Return a tile's part of the gradient of the time bias, [TIME_TERMS]: by bucket, or of the three parameters."""
    term = tl.arange(0, TIME_TERMS)
    sums = tl.zeros((TIME_TERMS,), tl.float32)
    if BIAS == BUCKETED:
        bucket = buckets(gap_ms, Edges)
        lowest = tl.min(tl.where(seen, bucket, TIME_TERMS))
        highest = tl.max(tl.where(seen, bucket, -1))
        for n in range(lowest, highest + 1):
            sums += tl.where(term == n, tl.sum(tl.where(bucket == n, slopes, 0.0)), 0.0)
    else:
        fallen, w, distance = decay(gap_ms, Times)
        inner = slopes * tl.load(Times) * fallen * w
        sums += tl.where(term == 0, tl.sum(slopes * fallen), 0.0)
        sums -= tl.where(term == 1, tl.sum(inner * distance), 0.0)
        sums += tl.where(term == 2, tl.sum(inner) * tl.load(Times + 1), 0.0)
    return sums


@triton.jit(do_not_specialize=UNSPECIALISED)
def pair_slopes(
    Q, K, V, dOut, ByTime, Lse, Delta, Bias, Offsets, Targets, Clock, Times, Edges,
    q_token, q_head, k_token, k_head, v_token, v_head,
    tokens, first, bias_row, heads, longest, span, window, alpha, inv_len,
    D_QK: tl.constexpr, D_V: tl.constexpr, P_QK: tl.constexpr, P_V: tl.constexpr,
    ACTIVATION: tl.constexpr, BIAS: tl.constexpr, WINDOW: tl.constexpr, TARGETS: tl.constexpr,
    DTYPE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Replace a tile of Bias by its gradient; write ByTime [sequences, row blocks, key blocks, TIME_TERMS] if seen."""
    row, key, b = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N, tl.program_id(2)
    start, length, history = span_of(Offsets, Targets, first + b, TARGETS)
    if not sees_any(row, key, length, history, window, BLOCK_M, BLOCK_N, WINDOW):
        return
    rows, keys = row + tl.arange(0, BLOCK_M), key + tl.arange(0, BLOCK_N)
    i, j = rows[:, None], keys[None, :]
    seen = sees(i, j, history, length, window, WINDOW)
    tile = tile_of(Bias, b, i, j, bias_row)
    bias = tl.where(seen, tl.load(tile).to(tl.float32), 0.0)
    scale = row_scales(rows, history, window, inv_len, ACTIVATION, WINDOW)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for head in range(0, heads):
        q = load_rows(Q + head * q_head, start, rows, rows < length, q_token, D_QK, P_QK)
        k = load_rows(K + head * k_head, start, keys, keys < length, k_token, D_QK, P_QK)
        v = load_rows(V + head * v_head, start, keys, keys < length, v_token, D_V, P_V)
        d_out = load_rows(dOut + head * D_V, start, rows, rows < length, heads * D_V, D_V, P_V)
        lse, delta = row_terms(Lse, Delta, start, rows, length, heads, head, ACTIVATION)
        scores = product(q, tl.trans(k), DTYPE, DOT, PRECISION) * alpha + bias
        d_weights = product(d_out, tl.trans(v), DTYPE, DOT, PRECISION)
        _, slopes = weights_and_slopes(
            scores, d_weights, seen, scale[:, None], lse[:, None], delta[:, None], False, ACTIVATION, DOT
        )  # fmt: skip
        total += slopes
    total = tl.where(seen, total, 0.0)
    tl.debug_barrier()  # all threads have read their bias
    tl.store(tile, total.to(Bias.dtype.element_ty))
    sums = time_sums(total, seen, gaps_ms(Clock, tokens, start, i, j, length), Times, Edges, BIAS)
    program = (b * tl.num_programs(0) + tl.program_id(0)) * tl.num_programs(1) + tl.program_id(1)
    tl.store(ByTime + tl.cast(program, tl.int64) * TIME_TERMS + tl.arange(0, TIME_TERMS), sums)


@triton.jit(do_not_specialize=(*UNSPECIALISED, "shares"))
def place_sums(
    Bias, ByPlace, Offsets, Targets, first, bias_row, sequences, shares, window,
    WINDOW: tl.constexpr, TARGETS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write ByPlace [blocks of distances, shares, BLOCK_N] from what pair_slopes has left in Bias.

    A row has one key at each distance: that many places before its own; a candidate's own key is at distance 0.
    """
    program = tl.program_id(0)
    nearest, share = program // shares * BLOCK_N, program % shares
    distance = (nearest + tl.arange(0, BLOCK_N))[None, :]
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for b in range(0, sequences):
        _, length, history = span_of(Offsets, Targets, first + b, TARGETS)
        for tile in range(nearest // BLOCK_M + (share + b) % shares, tl.cdiv(length, BLOCK_M), shares):
            i = (tile * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
            j = tl.where(distance == 0, i, tl.minimum(i, history) - distance)
            seen = sees(i, j, history, length, window, WINDOW)
            sums += tl.load(tile_of(Bias, b, i, j, bias_row), mask=seen, other=0.0).to(tl.float32)
    tl.store(ByPlace + program * BLOCK_N + tl.arange(0, BLOCK_N), tl.sum(sums, 0))
