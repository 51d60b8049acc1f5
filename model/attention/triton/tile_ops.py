"""Functions that the Triton kernels share, of one tile of rows and keys of one sequence: mask, bias, weights, slopes.

i rows, j keys: indices into the sequence, of the shapes [r, 1] and [1, k] (or [1, r] and [k, 1]), so that one
definition serves tiles of either orientation. A time is two float32 numbers, ms = high * 2**22 + low: differences of
milliseconds are exact up to 2**24, and rounded once above. The rules are those of masks.py, relative_bias.py and
activations.py. Importing this file imports Triton.
"""
# mypy: disable-error-code="import-untyped,no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

SILU = tl.constexpr(0)
SILU_SEEN = tl.constexpr(1)
SOFTMAX = tl.constexpr(2)

NONE = tl.constexpr(0)
BUCKETED = tl.constexpr(1)
FUNCTIONAL = tl.constexpr(2)
TIME_TERMS = tl.constexpr(128)  # sums of a time bias's gradient: 64-bit milliseconds reach no bucket above 122

HIDDEN = tl.constexpr(-1e30)  # score of a key that a row does not see, before a softmax


@triton.jit
def span_of(Offsets, Targets, b, TARGETS: tl.constexpr):
    """Return start (int64), length and history of a sequence."""
    start = tl.load(Offsets + b)
    length = (tl.load(Offsets + b + 1) - start).to(tl.int32)
    history = length
    if TARGETS:
        history = length - tl.load(Targets + b).to(tl.int32)
    return start, length, history


@triton.jit
def load_rows(X, start, index, inside, stride, D: tl.constexpr, P: tl.constexpr):
    """Return rows [r, P] of a head; columns from D on and rows outside are zero."""
    column = tl.arange(0, P)
    at = (start + index)[:, None] * stride + column[None, :]
    return tl.load(X + at, mask=inside[:, None] & (column < D)[None, :], other=0.0)


@triton.jit
def store_rows(X, rows, start, index, inside, stride, D: tl.constexpr, P: tl.constexpr):
    """Write rows [r, P] of a head."""
    column = tl.arange(0, P)
    at = (start + index)[:, None] * stride + column[None, :]
    tl.store(X + at, rows.to(X.dtype.element_ty), mask=inside[:, None] & (column < D)[None, :])


@triton.jit
def product(a, b, DTYPE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """Return a @ b in float32 of operands rounded to DTYPE; DOT differs from it only for the interpreter."""
    return tl.dot(a.to(DTYPE).to(DOT), b.to(DTYPE).to(DOT), input_precision=PRECISION)


@triton.jit
def sees(i, j, history, length, window, WINDOW: tl.constexpr):
    """Return which row sees which key."""
    seen = (j >= 0) & (j <= i) & (i < length) & ((j < history) | (j == i))
    if WINDOW:
        seen = seen & (tl.minimum(i, history) - tl.minimum(j, history) <= window)
    return seen


@triton.jit
def key_tiles(row, end, history, window, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WINDOW: tl.constexpr):
    """Return the first key and the numbers of full tiles, of tiles of history, and of all, for rows `row` to `end`.

    Every row sees all keys of a full tile. If a row is a candidate, the tiles of history are followed by those with the
    candidates' own keys.
    """
    low, full = 0, tl.minimum(row, history) // BLOCK_N
    if WINDOW:
        low = tl.maximum(tl.minimum(row, history) - window, 0) // BLOCK_N * BLOCK_N
        full = 0
    tiles = tl.cdiv(tl.maximum(tl.minimum(end, history) - low, 0), BLOCK_N)
    own = tl.where(end > history, tl.cdiv(BLOCK_M, BLOCK_N), 0)
    return low, full, tiles, tiles + own


@triton.jit
def sees_any(
    row, key, length, history, window, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WINDOW: tl.constexpr
):  # fmt: skip
    """Return whether any row of a tile may see any of its keys."""
    seen = (row < length) & (key < length) & (key < row + BLOCK_M) & ((key < history) | (key + BLOCK_N > row))
    if WINDOW:
        seen = seen & (tl.minimum(row, history) - tl.minimum(key + BLOCK_N - 1, history) <= window)
    return seen


@triton.jit
def tile_of(Bias, b, i, j, bias_row):
    """Return pointers to the pairs of a tile; Bias is [sequences, bias_row, bias_row], with values where seen."""
    return Bias + tl.cast(b, tl.int64) * bias_row * bias_row + i.to(tl.int64) * bias_row + j


@triton.jit
def gaps_ms(Clock, tokens, start, i, j, length):
    """Return |asked(row) - ts(key)| of a tile, float32 ms; Clock is [4, L]: asked high, asked low, ts high, ts low."""
    row, key = Clock + start + i, Clock + 2 * tokens + start + j
    here, there = i < length, (j >= 0) & (j < length)
    high = tl.load(row, mask=here, other=0.0) - tl.load(key, mask=there, other=0.0)
    low = tl.load(row + tokens, mask=here, other=0.0) - tl.load(key + tokens, mask=there, other=0.0)
    return tl.abs(high * 4194304.0 + low)


@triton.jit
def log_gaps(gap_ms):
    """Return ln(max(gap, 1 s)) of seconds."""
    return tl.log(tl.maximum(gap_ms, 1000.0) * 0.001)


@triton.jit
def buckets(gap_ms, Edges):
    """Return the time bucket: a guess, at most one too high, corrected by the bucket's lowest gap.

    The bits of a float, as an integer, are its logarithm to base 2, scaled and at most 0.0861 too low.
    """
    bits = tl.maximum(gap_ms, 1000.0).to(tl.int32, bitcast=True).to(tl.float32)
    guess = (bits * (2.3028145 / 8388608.0) - 315.2065).to(tl.int32)  # (log2(s) + 0.087) * ln(2) / 0.301
    return guess - (gap_ms < tl.load(Edges + guess)).to(tl.int32)


@triton.jit
def decay(gap_ms, Times):
    """Return parts of a functional bias: exp(-w), w, ln(gap) - log_scale; Times is [amplitude, power, log_scale]."""
    distance = log_gaps(gap_ms) - tl.load(Times + 2)
    w = tl.exp(tl.minimum(tl.load(Times + 1) * distance, 20.0))  # relative_bias.FAR
    return tl.exp(-w), w, distance


@triton.jit
def bias_of(
    i, j, seen, start, history, length, Clock, Positions, Times, Edges, tokens, max_len, BIAS: tl.constexpr
):  # fmt: skip
    """Return the bias of a tile, float32."""
    step = tl.minimum(j, history) - tl.minimum(i, history) + (max_len - 1)
    bias = tl.load(Positions + step, mask=seen, other=0.0).to(tl.float32)
    gap_ms = gaps_ms(Clock, tokens, start, i, j, length)
    if BIAS == BUCKETED:
        bias += tl.load(Times + buckets(gap_ms, Edges), mask=seen, other=0.0)
    if BIAS == FUNCTIONAL:
        fallen, _, _ = decay(gap_ms, Times)
        bias += tl.load(Times) * fallen
    return bias


@triton.jit
def row_scales(i, history, window, inv_len, ACTIVATION: tl.constexpr, WINDOW: tl.constexpr):
    """Return the factor of each row's SiLU weights."""
    if ACTIVATION == SILU:
        scale = tl.zeros(i.shape, tl.float32) + inv_len
    else:
        place = tl.minimum(i, history)
        count = place + 1
        if WINDOW:
            count = tl.minimum(place, window) + 1
        scale = 1.0 / count.to(tl.float32)
    return scale


@triton.jit
def sigmoid(x, DOT: tl.constexpr):
    """Return the sigmoid, for bfloat16 by the hardware's tanh: exact to 2**-12, which the weights' rounding exceeds."""
    if tl.bfloat16 == DOT:
        halved = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x * 0.5], tl.float32, True, 1)
        return halved * 0.5 + 0.5
    return tl.sigmoid(x)


@triton.jit
def weights_and_slopes(
    scores, d_weights, seen, scale, lse, delta, MASKED: tl.constexpr, ACTIVATION: tl.constexpr, DOT: tl.constexpr
):  # fmt: skip
    """Return the weights of a tile and the gradient of its scores, from the gradient of the weights."""
    if MASKED:
        scores = tl.where(seen, scores, HIDDEN if ACTIVATION == SOFTMAX else 0.0)
    if ACTIVATION == SOFTMAX:
        weights = tl.exp(scores - lse)
        if MASKED:
            weights = tl.where(seen, weights, 0.0)
        slopes = weights * (d_weights - delta)
    else:
        gate = sigmoid(scores, DOT)
        weights = scores * gate
        slopes = (d_weights * scale) * (gate + weights * (1.0 - gate))
        weights = weights * scale
        if MASKED:
            slopes = tl.where(seen, slopes, 0.0)
    return weights, slopes
