"""The backward kernels of a bias: sums of the scores' gradients by distance, and by time bucket or time parameter.

The heads share a bias, so a tile's slopes are summed over them first. In all tiles of one block diagonal an element has
the same distance between row and key. So a program of `history_sums` takes a share of the tiles of one block diagonal,
of all sequences, and sums them elementwise in registers. A time bias is summed bucket by bucket, over the buckets that
a tile has: few, since times rise. Candidates share one place, so their distance depends on the key alone: a program of
`candidate_sums` takes a share of the rows for one block of keys, counted from the end of the history; block 0 has the
candidates' own keys. Programs share no output, so there are no atomics.
"""
# mypy: disable-error-code="import-untyped,no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from model.attention.triton.backward import row_terms
from model.attention.triton.forward import UNSPECIALISED
from model.attention.triton.tile_ops import (
    BUCKETED,
    TIME_TERMS,
    bias_of,
    buckets,
    decay,
    gaps_ms,
    load_rows,
    product,
    row_scales,
    sees,
    span_of,
    weights_and_slopes,
)


@triton.jit
def slopes_of_tile(
    Q, K, V, dOut, Lse, Delta, Clock, Positions, Times, Edges,
    q_token, q_head, k_token, k_head, v_token, v_head,
    rows, keys, seen, start, length, history, tokens, heads, window, max_len, alpha, inv_len,
    D_QK: tl.constexpr, D_V: tl.constexpr, P_QK: tl.constexpr, P_V: tl.constexpr,
    ACTIVATION: tl.constexpr, BIAS: tl.constexpr, WINDOW: tl.constexpr,
    DTYPE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the gradient of a tile's bias, [r, k]: that of its scores, summed over the heads."""
    i, j = rows[:, None], keys[None, :]
    bias = bias_of(i, j, seen, start, history, length, Clock, Positions, Times, Edges, tokens, max_len, BIAS)
    scale = row_scales(rows, history, window, inv_len, ACTIVATION, WINDOW)
    there = (keys >= 0) & (keys < length)
    total = tl.zeros(bias.shape, tl.float32)
    for head in range(0, heads):
        q = load_rows(Q + head * q_head, start, rows, rows < length, q_token, D_QK, P_QK)
        k = load_rows(K + head * k_head, start, keys, there, k_token, D_QK, P_QK)
        v = load_rows(V + head * v_head, start, keys, there, v_token, D_V, P_V)
        d_out = load_rows(dOut + head * D_V, start, rows, rows < length, heads * D_V, D_V, P_V)
        lse, delta = row_terms(Lse, Delta, start, rows, length, heads, head, ACTIVATION)
        scores = product(q, tl.trans(k), DTYPE, DOT, PRECISION) * alpha + bias
        d_weights = product(d_out, tl.trans(v), DTYPE, DOT, PRECISION)
        _, slopes = weights_and_slopes(
            scores, d_weights, seen, scale[:, None], lse[:, None], delta[:, None], ACTIVATION
        )  # fmt: skip
        total += slopes
    return total


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


@triton.jit(do_not_specialize=(*UNSPECIALISED, "shares"))
def history_sums(
    Q, K, V, dOut, ByPlace, ByTime, Lse, Delta, Offsets, Targets, Clock, Positions, Times, Edges,
    q_token, q_head, k_token, k_head, v_token, v_head,
    tokens, sequences, heads, longest, span, shares, window, max_len, alpha, inv_len,
    D_QK: tl.constexpr, D_V: tl.constexpr, P_QK: tl.constexpr, P_V: tl.constexpr,
    ACTIVATION: tl.constexpr, BIAS: tl.constexpr, WINDOW: tl.constexpr, TARGETS: tl.constexpr,
    DTYPE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write ByPlace [diagonals, shares, BLOCK, BLOCK] and ByTime [diagonals, shares, TIME_TERMS] of history's rows."""
    program = tl.program_id(0)
    diagonal, share = program // shares, program % shares
    lane = tl.arange(0, BLOCK)
    by_place = tl.zeros((BLOCK, BLOCK), tl.float32)
    by_time = tl.zeros((TIME_TERMS,), tl.float32)
    for b in range(0, sequences):
        start, length, history = span_of(Offsets, Targets, b, TARGETS)
        across = tl.cdiv(history, BLOCK) - diagonal  # tiles of this diagonal
        if WINDOW:
            across = tl.where((diagonal - 1) * BLOCK < window, across, 0)
        for tile in range((share + b) % shares, across, shares):
            keys = tile * BLOCK + lane
            rows = keys + diagonal * BLOCK
            i, j = rows[:, None], keys[None, :]
            seen = sees(i, j, history, history, window, WINDOW)
            slopes = slopes_of_tile(
                Q, K, V, dOut, Lse, Delta, Clock, Positions, Times, Edges,
                q_token, q_head, k_token, k_head, v_token, v_head,
                rows, keys, seen, start, length, history, tokens, heads, window, max_len, alpha, inv_len,
                D_QK, D_V, P_QK, P_V, ACTIVATION, BIAS, WINDOW, DTYPE, DOT, PRECISION,
            )  # fmt: skip
            by_place += slopes
            by_time += time_sums(slopes, seen, gaps_ms(Clock, tokens, start, i, j, length), Times, Edges, BIAS)
    tl.store(ByPlace + program * BLOCK * BLOCK + lane[:, None] * BLOCK + lane[None, :], by_place)
    tl.store(ByTime + program * TIME_TERMS + tl.arange(0, TIME_TERMS), by_time)


@triton.jit(do_not_specialize=(*UNSPECIALISED, "shares"))
def candidate_sums(
    Q, K, V, dOut, ByPlace, ByTime, Lse, Delta, Offsets, Targets, Clock, Positions, Times, Edges,
    q_token, q_head, k_token, k_head, v_token, v_head,
    tokens, sequences, heads, longest, span, shares, window, max_len, alpha, inv_len,
    D_QK: tl.constexpr, D_V: tl.constexpr, P_QK: tl.constexpr, P_V: tl.constexpr,
    ACTIVATION: tl.constexpr, BIAS: tl.constexpr, WINDOW: tl.constexpr, TARGETS: tl.constexpr,
    DTYPE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write ByPlace [key blocks, shares, BLOCK] and ByTime [key blocks, shares, TIME_TERMS], for rows of candidates."""
    program = tl.program_id(0)
    block, share = program // shares, program % shares
    lane = tl.arange(0, BLOCK)
    by_place = tl.zeros((BLOCK,), tl.float32)
    by_time = tl.zeros((TIME_TERMS,), tl.float32)
    for b in range(0, sequences):
        start, length, history = span_of(Offsets, Targets, b, TARGETS)
        across = tl.cdiv(length - history, BLOCK)
        across = tl.where((block - 1) * BLOCK < history, across, 0)
        if WINDOW:
            across = tl.where((block - 1) * BLOCK < window, across, 0)
        for tile in range((share + b) % shares, across, shares):
            rows = history + tile * BLOCK + lane
            keys = tl.where(block == 0, rows, history - 1 - (block - 1) * BLOCK - lane)
            i, j = rows[:, None], keys[None, :]
            seen = sees(i, j, history, length, window, WINDOW)
            slopes = slopes_of_tile(
                Q, K, V, dOut, Lse, Delta, Clock, Positions, Times, Edges,
                q_token, q_head, k_token, k_head, v_token, v_head,
                rows, keys, seen, start, length, history, tokens, heads, window, max_len, alpha, inv_len,
                D_QK, D_V, P_QK, P_V, ACTIVATION, BIAS, WINDOW, DTYPE, DOT, PRECISION,
            )  # fmt: skip
            by_place += tl.sum(slopes, 0)
            by_time += time_sums(slopes, seen, gaps_ms(Clock, tokens, start, i, j, length), Times, Edges, BIAS)
    tl.store(ByPlace + program * BLOCK + lane, by_place)
    tl.store(ByTime + program * TIME_TERMS + tl.arange(0, TIME_TERMS), by_time)
