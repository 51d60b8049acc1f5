"""Compiled loops over rows and blocks of the encoder on a CPU (cpu.py): activations, norms, gates, products.

n tokens of a sequence, i row, j key, c column of a head, r row of a block of ROWS rows. What products read and write
lies in arrays of `extent`, with room for whole tiles; only keys up to a block's last row are touched. Numba compiles
this for the machine's vector unit, once: what it makes is kept in __pycache__ (or where NUMBA_CACHE_DIR says).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest

from model.attention.cpu_tiles import LANES, SHORT, TALL, add_short, add_tall, short, tall, transpose_tile
from model.compiled import compiled as compile_loops

ROWS: Final = LANES  # of a block: keys are transposed tile by tile
SILU, SILU_SEEN, SOFTMAX = range(3)

SOURCES: Final = xxh3_64_hexdigest(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("cpu_*.py")))
)

Array = NDArray[Any]
_EXP2: Final = tuple(np.float32(math.log(2) ** k / math.factorial(k)) for k in range(7))
_LOG2E: Final = np.float32(math.log2(math.e))
_ONE, _ZERO, _HALF, _LIMIT = np.float32(1), np.float32(0), np.float32(0.5), np.float32(60)
P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function; sums may be taken in any (fixed) order.

    What is kept bears a digest of all sources in its name, so that these functions may call one another across files.
    """
    function.__qualname__ = f"{function.__qualname__}_{SOURCES}"
    return compile_loops(function, any_order=True)


@compiled
def exp(x: Any) -> Any:
    """Give e^x in float32 without a branch or a call, as 2^(n+f) = 2^n * series(f).

    The relative error is 2e-7 for small x and grows with it to 4e-6 at 60, where x is cut off: e^-60 is as good as
    nothing, and quotients of e^60 do not overflow in whatever order they are taken.
    """
    t = min(max(x, -_LIMIT), _LIMIT) * _LOG2E
    n = np.floor(t + _HALF)
    f = t - n
    series = _EXP2[6]
    for k in (5, 4, 3, 2, 1, 0):
        series = series * f + _EXP2[k]
    return series * np.int32((np.int32(n) + 127) << 23).view(np.float32)


@compiled
def sigmoid(x: Any) -> Any:
    """Give 1 / (1 + e^-x)."""
    return _ONE / (_ONE + exp(-x))


@compiled
def extent(rows: int, columns: int) -> tuple[int, int]:
    """Give the size of an array with room for whole tiles, its rows no multiple of 512 bytes apart.

    Else the entries of a column would share few of the cache's sets.
    """
    wide = (columns + LANES - 1) // LANES * LANES + LANES
    return rows + LANES, wide + LANES if wide % 128 == 0 else wide


@compiled
def buffer(rows: int, columns: int) -> Array:
    """Give zeros, with room for whole tiles."""
    return np.zeros(extent(rows, columns), np.float32)


@compiled
def product(out: Array, a: Array, b: Array, rows: int, columns: int, k: int) -> None:
    """Let out[:rows, :columns] be a[:rows, :k] @ b[:k, :columns]; whole tiles are read and written."""
    for c in range(0, columns, LANES):
        for r in range(0, rows, TALL):
            if rows - r > SHORT:
                tall(out, a, b, r, c, k)
            else:
                short(out, a, b, r, c, k)


@compiled
def add_product(out: Array, a: Array, b: Array, rows: int, columns: int, k: int) -> None:
    """Add a[:rows, :k] @ b[:k, :columns] to out[:rows, :columns]; whole tiles are read and written."""
    for c in range(0, columns, LANES):
        for r in range(0, rows, TALL):
            if rows - r > SHORT:
                add_tall(out, a, b, r, c, k)
            else:
                add_short(out, a, b, r, c, k)


@compiled
def product_by_panels(out: Array, a: Array, w_PKC: Array, rows: int) -> None:
    """Let out[:rows] be a[:rows] @ w, whose columns come in panels."""
    for p in range(len(w_PKC)):
        product(out[:, p * LANES :], a, w_PKC[p], rows, LANES, w_PKC.shape[1])


@compiled
def add_to_panels(gw_PKC: Array, a: Array, g: Array, rows: int, k: int) -> None:
    """Add a[:rows, :k] @ g[:k] to sums whose columns come in panels."""
    for p in range(len(gw_PKC)):
        add_product(gw_PKC[p], a, g[:, p * LANES :], rows, LANES, k)


@compiled
def transpose(out_dn: Array, at: int, a_nE: Array, first: int, column: int, width: int) -> None:
    """Let columns at.. of a transposed head be ROWS rows of a, from `first`, and its `width` columns from `column`."""
    for c in range(0, width, LANES):
        transpose_tile(out_dn, a_nE, c, at, first, column + c)


@compiled
def clear(out: Array, rows: int, columns: int) -> None:
    """Write zeros."""
    for r in range(rows):
        for c in range(columns):
            out[r, c] = _ZERO


@compiled
def copy(out_D: Array, a_D: Array, width: int) -> None:
    """Copy the beginning of a row: an assignment of slices would bring the making of its errors' texts with it."""
    for c in range(width):
        out_D[c] = a_D[c]


@compiled
def silu(a_E: Array, width: int) -> None:
    """Turn a row into its silu, in place."""
    for e in range(width):
        a_E[e] *= sigmoid(a_E[e])


@compiled
def load_slopes(a_E: Array, gz_E: Array, z_E: Array) -> None:
    """Load a row, and let gz be the derivative of silu at z, until the gradients of a are multiplied in."""
    for e in range(len(z_E)):
        x = z_E[e]
        s = sigmoid(x)
        a_E[e] = x * s
        gz_E[e] = s * (_ONE + x * (_ONE - s))


@compiled
def multiply(gz_nE: Array, first: int, column: int, ga_rd: Array, rows: int, width: int, scale: Any) -> None:
    """Multiply scale * the gradients of some rows and columns of a into gz."""
    for r in range(rows):
        for c in range(width):
            gz_nE[first + r, column + c] *= scale * ga_rd[r, c]


@compiled
def norm(out_D: Array, x_D: Array, eps: Any) -> Any:
    """Let a row of out be norm(x); give 1 / its deviation."""
    mean, scale = _moments(x_D, len(x_D), eps)
    for c in range(len(x_D)):
        out_D[c] = (x_D[c] - mean) * scale
    return scale


@compiled
def norm_back(g_D: Array, gn_D: Array, normed_D: Array, scale: Any) -> None:
    """Add to a row of g what the gradient of norm(x) makes of x's."""
    width = len(g_D)
    mean, along = _ZERO, _ZERO
    for c in range(width):
        mean += gn_D[c]
        along += gn_D[c] * normed_D[c]
    mean, along = mean / np.float32(width), along / np.float32(width)
    for c in range(width):
        g_D[c] += scale * (gn_D[c] - mean - normed_D[c] * along)


@compiled
def weigh(scores_rn: Array, bias_rn: Array, i: int, rows: int, alpha: Any, phi: int, max_len: int) -> None:
    """Turn a block's products into weights, in place; i is its first row."""
    width = (i // ROWS + 1) * ROWS
    for r in range(rows):
        row, bias, last = scores_rn[r], bias_rn[r], i + r
        if phi == SOFTMAX:
            _softmax(row, bias, last, alpha)
        else:
            factor = _ONE / np.float32(last + 1 if phi == SILU_SEEN else max_len)
            for j in range(width):
                x = row[j] * alpha + bias[j]
                row[j] = x * sigmoid(x) * factor
        for j in range(last + 1, width):
            row[j] = _ZERO


@compiled
def weigh_back(
    scores_rn: Array, bias_rn: Array, g_rn: Array, i: int, rows: int, alpha: Any, phi: int, max_len: int
) -> None:
    """Turn products into weights, and the gradient of the weights into that of the scores, both in place."""
    width = (i // ROWS + 1) * ROWS
    for r in range(rows):
        row, bias, g, last = scores_rn[r], bias_rn[r], g_rn[r], i + r
        if phi == SOFTMAX:
            _softmax(row, bias, last, alpha)
            mean = _ZERO
            for j in range(last + 1):
                mean += row[j] * g[j]
            for j in range(last + 1):
                g[j] = row[j] * (g[j] - mean)
        else:
            factor = _ONE / np.float32(last + 1 if phi == SILU_SEEN else max_len)
            for j in range(width):
                x = row[j] * alpha + bias[j]
                s = sigmoid(x)
                row[j] = x * s * factor
                g[j] *= factor * s * (_ONE + x * (_ONE - s))
        for j in range(last + 1, width):
            row[j] = g[j] = _ZERO


@compiled
def _softmax(row: Array, bias: Array, last: int, alpha: Any) -> None:
    most = row[0] * alpha + bias[0]
    for j in range(last + 1):
        row[j] = row[j] * alpha + bias[j]
        most = max(most, row[j])
    total = _ZERO
    for j in range(last + 1):
        row[j] = exp(row[j] - most)
        total += row[j]
    factor = _ONE / total
    for j in range(last + 1):
        row[j] *= factor


@compiled
def gate(y_D: Array, o_D: Array, u_E: Array, eps: Any) -> None:
    """Let y be u * norm(o) at one token, u being the first columns of silu(z)."""
    mean, scale = _moments(o_D, len(o_D), eps)
    for c in range(len(o_D)):
        y_D[c] = u_E[c] * (o_D[c] - mean) * scale


@compiled
def gate_back(y_D: Array, gz_E: Array, go_D: Array, gy_D: Array, o_D: Array, u_E: Array, eps: Any) -> None:
    """Give y once more and the gradient of o, and multiply that of u into gz, at one token."""
    width = len(o_D)
    mean, scale = _moments(o_D, width, eps)
    g_mean = gn_mean = _ZERO
    for c in range(width):
        normed = (o_D[c] - mean) * scale
        g = gy_D[c] * u_E[c]
        y_D[c] = u_E[c] * normed
        gz_E[c] *= gy_D[c] * normed
        g_mean += g
        gn_mean += g * normed
    g_mean, gn_mean = g_mean / np.float32(width), gn_mean / np.float32(width)
    for c in range(width):
        go_D[c] = scale * (gy_D[c] * u_E[c] - g_mean - (o_D[c] - mean) * scale * gn_mean)


@compiled
def _moments(o_D: Array, width: int, eps: Any) -> Any:
    total = squares = _ZERO
    for c in range(width):
        total += o_D[c]
    mean = total / np.float32(width)
    for c in range(width):
        squares += (o_D[c] - mean) * (o_D[c] - mean)
    return mean, _ONE / np.sqrt(squares / np.float32(width) + eps)
