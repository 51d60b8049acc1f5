"""Compiled loops of the gated attention on a CPU (cpu.py): one sequence after another, all of it in the core's caches.

n tokens of a sequence, i row, j key, c column of a head, r row of a block of ROWS rows. Keys, values and their
gradients are held transposed, [d, n], so that every inner loop runs along the keys, in vectors; arrays are padded to
whole vectors of ROWS keys and whole quads of columns, with zeros. Only keys up to a block's last row are touched.
Numba compiles this for the machine's vector unit, once: the result is kept in __pycache__ (or NUMBA_CACHE_DIR).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest

from model.compiled import compiled as compile_loops

ROWS: Final = 16  # of a block, and keys of a step: a vector of float32 in AVX-512, two in AVX2
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
    return compile_loops(function, fastmath=True)


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
def clear(out_rn: Array, steps: int) -> None:
    """Write zeros into the first steps * ROWS columns."""
    for r in range(out_rn.shape[0]):
        for j in range(steps * ROWS):
            out_rn[r, j] = _ZERO


@compiled
def copy(out_rn: Array, a_rn: Array, steps: int) -> None:
    """Copy the first steps * ROWS columns."""
    for r in range(out_rn.shape[0]):
        for j in range(steps * ROWS):
            out_rn[r, j] = a_rn[r, j]


@compiled
def add(out_rn: Array, a_rn: Array, steps: int) -> None:
    """Add the first steps * ROWS columns."""
    for r in range(out_rn.shape[0]):
        for j in range(steps * ROWS):
            out_rn[r, j] += a_rn[r, j]


@compiled
def add_product(out: Array, a: Array, b: Array, steps: int) -> None:
    """Add a @ b to out in its first steps * ROWS columns; rows of out and of b come in fours."""
    for r in range(0, out.shape[0], 4):
        for c in range(0, b.shape[0], 4):
            a00, a01, a02, a03 = a[r, c], a[r, c + 1], a[r, c + 2], a[r, c + 3]
            a10, a11, a12, a13 = a[r + 1, c], a[r + 1, c + 1], a[r + 1, c + 2], a[r + 1, c + 3]
            a20, a21, a22, a23 = a[r + 2, c], a[r + 2, c + 1], a[r + 2, c + 2], a[r + 2, c + 3]
            a30, a31, a32, a33 = a[r + 3, c], a[r + 3, c + 1], a[r + 3, c + 2], a[r + 3, c + 3]
            for j in range(steps * ROWS):
                b0, b1, b2, b3 = b[c, j], b[c + 1, j], b[c + 2, j], b[c + 3, j]
                out[r, j] += a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
                out[r + 1, j] += a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
                out[r + 2, j] += a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
                out[r + 3, j] += a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3


@compiled
def product_of_rows(out: Array, a: Array, b: Array, steps: int) -> None:
    """Let out[r, c] be the sum of a[r, j] * b[c, j] over the first steps * ROWS j; rows of a and b come in fours."""
    for r in range(0, a.shape[0], 4):
        for c in range(0, b.shape[0], 4):
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = _ZERO
            s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = _ZERO
            for j in range(steps * ROWS):
                a0, a1, a2, a3 = a[r, j], a[r + 1, j], a[r + 2, j], a[r + 3, j]
                b0, b1, b2, b3 = b[c, j], b[c + 1, j], b[c + 2, j], b[c + 3, j]
                s00, s01, s02, s03 = s00 + a0 * b0, s01 + a0 * b1, s02 + a0 * b2, s03 + a0 * b3
                s10, s11, s12, s13 = s10 + a1 * b0, s11 + a1 * b1, s12 + a1 * b2, s13 + a1 * b3
                s20, s21, s22, s23 = s20 + a2 * b0, s21 + a2 * b1, s22 + a2 * b2, s23 + a2 * b3
                s30, s31, s32, s33 = s30 + a3 * b0, s31 + a3 * b1, s32 + a3 * b2, s33 + a3 * b3
            out[r, c], out[r, c + 1], out[r, c + 2], out[r, c + 3] = s00, s01, s02, s03
            out[r + 1, c], out[r + 1, c + 1], out[r + 1, c + 2], out[r + 1, c + 3] = s10, s11, s12, s13
            out[r + 2, c], out[r + 2, c + 1], out[r + 2, c + 2], out[r + 2, c + 3] = s20, s21, s22, s23
            out[r + 3, c], out[r + 3, c + 1], out[r + 3, c + 2], out[r + 3, c + 3] = s30, s31, s32, s33


@compiled
def load(a_rE: Array, z_LE: Array, first: int, rows: int) -> None:
    """Fill a block with silu(z) of its tokens, and with zeros beyond them."""
    width = z_LE.shape[1]
    for r in range(rows):
        for e in range(width):
            x = z_LE[first + r, e]
            a_rE[r, e] = x * sigmoid(x)
    for r in range(rows, ROWS):
        for e in range(width):
            a_rE[r, e] = _ZERO


@compiled
def load_slopes(a_rE: Array, gz_LE: Array, z_LE: Array, first: int, rows: int) -> None:
    """Fill a block as load does; let gz be the derivative of silu at z, until its gradients are multiplied in."""
    width = z_LE.shape[1]
    for r in range(rows):
        for e in range(width):
            x = z_LE[first + r, e]
            s = sigmoid(x)
            a_rE[r, e] = x * s
            gz_LE[first + r, e] = s * (_ONE + x * (_ONE - s))
    for r in range(rows, ROWS):
        for e in range(width):
            a_rE[r, e] = _ZERO


@compiled
def transpose(out_dn: Array, i: int, a_rE: Array, column: int, width: int, scale: Any) -> None:
    """Let columns i.. of a transposed head be scale * a block's columns."""
    for c in range(width):
        for r in range(ROWS):
            out_dn[c, i + r] = scale * a_rE[r, column + c]


@compiled
def multiply_rows(gz_LE: Array, first: int, g_rd: Array, rows: int, column: int, width: int) -> None:
    """Multiply the gradients of a block of rows into gz."""
    for r in range(rows):
        for c in range(width):
            gz_LE[first + r, column + c] *= g_rd[r, c]


@compiled
def multiply_transposed(gz_LE: Array, first: int, g_dn: Array, n: int, column: int, width: int, scale: Any) -> None:
    """Multiply a transposed head's gradients into gz."""
    for i in range(0, n, ROWS):
        for r in range(i, min(i + ROWS, n)):
            for c in range(width):
                gz_LE[first + r, column + c] *= scale * g_dn[c, r]


@compiled
def weigh(scores_rn: Array, i: int, rows: int, phi: int, max_len: int) -> None:
    """Turn a block's scores into weights, in place; i is its first row."""
    width = (i // ROWS + 1) * ROWS
    for r in range(rows):
        row = scores_rn[r]
        if phi == SOFTMAX:
            _softmax(row, i + r, width)
        else:
            factor = _ONE / np.float32(i + r + 1 if phi == SILU_SEEN else max_len)
            for j in range(width):
                x = row[j]
                row[j] = x * sigmoid(x) * factor
        for j in range(i + r + 1, width):
            row[j] = _ZERO


@compiled
def weigh_back(scores_rn: Array, g_rn: Array, i: int, rows: int, phi: int, max_len: int) -> None:
    """Turn scores into weights, and the gradient of the weights into that of the scores, both in place."""
    width = (i // ROWS + 1) * ROWS
    for r in range(rows):
        row, g = scores_rn[r], g_rn[r]
        if phi == SOFTMAX:
            _softmax(row, i + r, width)
            mean = _ZERO
            for j in range(width):
                mean += row[j] * g[j]
            for j in range(width):
                g[j] = row[j] * (g[j] - mean)
        else:
            factor = _ONE / np.float32(i + r + 1 if phi == SILU_SEEN else max_len)
            for j in range(width):
                x = row[j]
                s = sigmoid(x)
                row[j] = x * s * factor
                g[j] *= factor * s * (_ONE + x * (_ONE - s))
        for j in range(i + r + 1, width):
            row[j] = g[j] = _ZERO


@compiled
def _softmax(row: Array, i: int, width: int) -> None:
    most = row[0]
    for j in range(i + 1):
        most = max(most, row[j])
    total = _ZERO
    for j in range(i + 1):
        row[j] = exp(row[j] - most)
        total += row[j]
    factor = _ONE / total
    for j in range(i + 1):
        row[j] *= factor
    for j in range(i + 1, width):
        row[j] = _ZERO


@compiled
def gate(y_D: Array, o_D: Array, u_E: Array, eps: Any) -> None:
    """Let y be u * norm(o) at one token, u being the first columns of silu(z)."""
    mean, scale = _moments(o_D, len(y_D), eps)
    for c in range(len(y_D)):
        y_D[c] = u_E[c] * (o_D[c] - mean) * scale


@compiled
def gate_back(gz_E: Array, go_D: Array, gy_D: Array, o_D: Array, u_E: Array, eps: Any) -> None:
    """Multiply the gradient of u into gz, and give that of o, at one token."""
    width = len(gy_D)
    mean, scale = _moments(o_D, width, eps)
    g_mean = gn_mean = _ZERO
    for c in range(width):
        normed = (o_D[c] - mean) * scale
        g = gy_D[c] * u_E[c]
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
