"""The backward kernels of q, k and v. Both compute the scores of their tiles again and need no atomic additions.

`query_gradients` loops over the keys of a block of rows, `key_gradients` over the rows of a block of keys. Each program
is the only one to write its output, and sums in a fixed order: equal batches give equal bits.
"""
# mypy: disable-error-code="import-untyped,no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from model.attention.triton.forward import UNSPECIALISED
from model.attention.triton.tile_ops import (
    SOFTMAX,
    key_tiles,
    load_rows,
    product,
    row_scales,
    sees,
    span_of,
    store_rows,
    tile_of,
    weights_and_slopes,
)


@triton.jit
def row_terms(Lse, Delta, start, rows, length, heads, head, ACTIVATION: tl.constexpr):
    """Return what a softmax's backward needs of each row: the log-sum-exp, and output · its gradient."""
    lse = tl.zeros(rows.shape, tl.float32)
    delta = tl.zeros(rows.shape, tl.float32)
    if ACTIVATION == SOFTMAX:
        at = (start + rows) * heads + head
        lse = tl.load(Lse + at, mask=rows < length, other=0.0)
        delta = tl.load(Delta + at, mask=rows < length, other=0.0)
    return lse, delta


@triton.jit(do_not_specialize=UNSPECIALISED)
def query_gradients(
    Q, K, V, dOut, dQ, Lse, Delta, Bias, Offsets, Targets,
    q_token, q_head, k_token, k_head, v_token, v_head,
    first, bias_row, sequences, heads, longest, span, window, alpha, inv_len,
    D_QK: tl.constexpr, D_V: tl.constexpr, P_QK: tl.constexpr, P_V: tl.constexpr,
    ACTIVATION: tl.constexpr, BIASED: tl.constexpr, WINDOW: tl.constexpr, TARGETS: tl.constexpr,
    DTYPE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write dQ [L, H, D_QK]."""
    program = tl.program_id(0)
    row = (tl.cdiv(longest, BLOCK_M) - 1 - program // (sequences * heads)) * BLOCK_M
    head, b = program % heads, program // heads % sequences
    start, length, history = span_of(Offsets, Targets, first + b, TARGETS)
    if row >= length:
        return
    rows = row + tl.arange(0, BLOCK_M)
    q = load_rows(Q + head * q_head, start, rows, rows < length, q_token, D_QK, P_QK)
    d_out = load_rows(dOut + head * D_V, start, rows, rows < length, heads * D_V, D_V, P_V)
    lse, delta = row_terms(Lse, Delta, start, rows, length, heads, head, ACTIVATION)
    scale = row_scales(rows, history, window, inv_len, ACTIVATION, WINDOW)
    d_q = tl.zeros((BLOCK_M, P_QK), tl.float32)
    end = tl.minimum(row + BLOCK_M, length)
    low, full, tiles, all_tiles = key_tiles(row, end, history, window, BLOCK_M, BLOCK_N, WINDOW)
    for MASKED in tl.static_range(2):
        for t in range(full * MASKED, full + (all_tiles - full) * MASKED):
            key = tl.where(t < tiles, low + t * BLOCK_N, row + (t - tiles) * BLOCK_N)
            keys = key + tl.arange(0, BLOCK_N)
            i, j = rows[:, None], keys[None, :]
            seen = sees(i, j, history, length, window, WINDOW)
            if TARGETS:
                seen = seen & ((j < history) == (t < tiles))
            k = load_rows(K + head * k_head, start, keys, keys < length, k_token, D_QK, P_QK)
            v = load_rows(V + head * v_head, start, keys, keys < length, v_token, D_V, P_V)
            scores = product(q, tl.trans(k), DTYPE, DOT, PRECISION) * alpha
            if BIASED:
                scores += tl.load(tile_of(Bias, b, i, j, bias_row)).to(tl.float32)
            d_weights = product(d_out, tl.trans(v), DTYPE, DOT, PRECISION)
            _, slopes = weights_and_slopes(
                scores, d_weights, seen, scale[:, None], lse[:, None], delta[:, None], MASKED, ACTIVATION, DOT
            )  # fmt: skip
            d_q += product(slopes, k, DTYPE, DOT, PRECISION)
    store_rows(dQ + head * D_QK, d_q * alpha, start, rows, rows < length, heads * D_QK, D_QK, P_QK)


@triton.jit(do_not_specialize=UNSPECIALISED)
def key_gradients(
    Q, K, V, dOut, dK, dV, Lse, Delta, Bias, Offsets, Targets,
    q_token, q_head, k_token, k_head, v_token, v_head,
    first, bias_row, sequences, heads, longest, span, window, alpha, inv_len,
    D_QK: tl.constexpr, D_V: tl.constexpr, P_QK: tl.constexpr, P_V: tl.constexpr,
    ACTIVATION: tl.constexpr, BIASED: tl.constexpr, WINDOW: tl.constexpr, TARGETS: tl.constexpr,
    DTYPE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write dK [L, H, D_QK] and dV [L, H, D_V]; the first keys, which most rows see, come first."""
    program = tl.program_id(0)
    key = program // (sequences * heads) * BLOCK_N
    head, b = program % heads, program // heads % sequences
    start, length, history = span_of(Offsets, Targets, first + b, TARGETS)
    if key >= length:
        return
    keys = key + tl.arange(0, BLOCK_N)
    k = load_rows(K + head * k_head, start, keys, keys < length, k_token, D_QK, P_QK)
    v = load_rows(V + head * v_head, start, keys, keys < length, v_token, D_V, P_V)
    d_k = tl.zeros((BLOCK_N, P_QK), tl.float32)
    d_v = tl.zeros((BLOCK_N, P_V), tl.float32)
    last = tl.minimum(key + BLOCK_N, length) - 1
    end = length
    if WINDOW:
        end = tl.where(last + window < history, last + window + 1, end)
    if TARGETS:
        end = tl.where(key >= history, last + 1, end)
    edge = tl.cdiv(BLOCK_N, BLOCK_M)  # tiles of rows that do not see all keys
    full = tl.maximum(end - key, 0) // BLOCK_M - edge
    full = tl.where(key + BLOCK_N <= history, tl.maximum(full, 0), 0)
    if WINDOW:
        full = 0
    tiles = tl.cdiv(tl.maximum(end - key, 0), BLOCK_M)
    for MASKED in tl.static_range(2):
        for t in range(0, full + (tiles - 2 * full) * MASKED):
            skipped = edge if not MASKED else tl.where(t < edge, 0, full)
            rows = key + (t + skipped) * BLOCK_M + tl.arange(0, BLOCK_M)
            i, j = rows[None, :], keys[:, None]
            seen = sees(i, j, history, length, window, WINDOW)
            q = load_rows(Q + head * q_head, start, rows, rows < length, q_token, D_QK, P_QK)
            d_out = load_rows(dOut + head * D_V, start, rows, rows < length, heads * D_V, D_V, P_V)
            lse, delta = row_terms(Lse, Delta, start, rows, length, heads, head, ACTIVATION)
            scale = row_scales(rows, history, window, inv_len, ACTIVATION, WINDOW)
            scores = product(k, tl.trans(q), DTYPE, DOT, PRECISION) * alpha
            if BIASED:
                scores += tl.trans(tl.load(tile_of(Bias, b, rows[:, None], keys[None, :], bias_row)).to(tl.float32))
            d_weights = product(v, tl.trans(d_out), DTYPE, DOT, PRECISION)
            weights, slopes = weights_and_slopes(
                scores, d_weights, seen, scale[None, :], lse[None, :], delta[None, :], MASKED, ACTIVATION, DOT
            )  # fmt: skip
            d_v += product(weights, d_out, DTYPE, DOT, PRECISION)
            d_k += product(slopes, q, DTYPE, DOT, PRECISION)
    store_rows(dK + head * D_QK, d_k * alpha, start, keys, keys < length, heads * D_QK, D_QK, P_QK)
    store_rows(dV + head * D_V, d_v, start, keys, keys < length, heads * D_V, D_V, P_V)
