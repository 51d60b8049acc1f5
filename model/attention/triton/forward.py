"""The forward kernels: of the bias, and of the attention.

A program of `attention` computes the outputs of BLOCK_M rows of one head of one sequence. It loops over the keys in
tiles of BLOCK_N; scores and weights of a tile stay in registers. A softmax is computed online: each tile rescales the
running maximum and sum. Tiles that all rows see are not masked.

The heads share a bias, so `pair_bias` computes it once for all of them, and the other kernels load it.
"""
# mypy: disable-error-code="import-untyped,no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from model.attention.triton.tile_ops import (
    HIDDEN,
    SOFTMAX,
    bias_of,
    key_tiles,
    load_rows,
    product,
    row_scales,
    sees,
    sees_any,
    sigmoid,
    span_of,
    store_rows,
    tile_of,
)

UNSPECIALISED = ("tokens", "first", "sequences", "longest", "span", "window", "max_len")  # they vary by batch


@triton.jit(do_not_specialize=UNSPECIALISED)
def pair_bias(
    Bias, Offsets, Targets, Clock, Positions, Times, Edges,
    tokens, first, bias_row, longest, span, window, max_len,
    BIAS: tl.constexpr, WINDOW: tl.constexpr, TARGETS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write Bias [sequences, bias_row, bias_row] of rows by keys, from sequence `first` on; zero where unseen."""
    row, key, b = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N, tl.program_id(2)
    start, length, history = span_of(Offsets, Targets, first + b, TARGETS)
    if not sees_any(row, key, length, history, window, BLOCK_M, BLOCK_N, WINDOW):
        return
    i, j = (row + tl.arange(0, BLOCK_M))[:, None], (key + tl.arange(0, BLOCK_N))[None, :]
    seen = sees(i, j, history, length, window, WINDOW)
    bias = bias_of(i, j, seen, start, history, length, Clock, Positions, Times, Edges, tokens, max_len, BIAS)
    tl.store(tile_of(Bias, b, i, j, bias_row), tl.where(seen, bias, 0.0).to(Bias.dtype.element_ty))


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention(
    Q, K, V, Out, Lse, Bias, Offsets, Targets,
    q_token, q_head, k_token, k_head, v_token, v_head,
    first, bias_row, sequences, heads, longest, span, window, alpha, inv_len,
    D_QK: tl.constexpr, D_V: tl.constexpr, P_QK: tl.constexpr, P_V: tl.constexpr,
    ACTIVATION: tl.constexpr, BIASED: tl.constexpr, WINDOW: tl.constexpr, TARGETS: tl.constexpr,
    DTYPE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write Out [L, H, D_V] and, for a softmax, Lse [L, H]; the last rows, which see the most keys, come first."""
    program = tl.program_id(0)
    row = (tl.cdiv(longest, BLOCK_M) - 1 - program // (sequences * heads)) * BLOCK_M
    head, b = program % heads, program // heads % sequences
    start, length, history = span_of(Offsets, Targets, first + b, TARGETS)
    if row >= length:
        return
    rows = row + tl.arange(0, BLOCK_M)
    q = load_rows(Q + head * q_head, start, rows, rows < length, q_token, D_QK, P_QK)
    out = tl.zeros((BLOCK_M, P_V), tl.float32)
    high = tl.full((BLOCK_M,), HIDDEN, tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
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
            if MASKED:
                scores = tl.where(seen, scores, HIDDEN if ACTIVATION == SOFTMAX else 0.0)
            if ACTIVATION == SOFTMAX:
                higher = tl.maximum(high, tl.max(scores, 1))
                weights = tl.exp(scores - higher[:, None])
                if MASKED:
                    weights = tl.where(seen, weights, 0.0)
                shrunk = tl.exp(high - higher)
                total = total * shrunk + tl.sum(weights, 1)
                out = out * shrunk[:, None]
                high = higher
            else:
                weights = scores * sigmoid(scores, DOT)
            out += product(weights, v, DTYPE, DOT, PRECISION)
    if ACTIVATION == SOFTMAX:
        total = tl.where(rows < length, total, 1.0)
        out = out / total[:, None]
        tl.store(Lse + (start + rows) * heads + head, high + tl.log(total), mask=rows < length)
    else:
        out = out * row_scales(rows, history, window, inv_len, ACTIVATION, WINDOW)[:, None]
    store_rows(Out + head * D_V, out, start, rows, rows < length, heads * D_V, D_V, P_V)
