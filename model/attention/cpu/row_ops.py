"""Compiled loops over rows and blocks of the encoder on a CPU (encode.py): activations, norms, gates, products.

i row of a sequence, j key, r row of a block of ROWS rows, c column. Products read and write arrays made by `buffer`,
which have room for whole tiles; only keys up to a block's last row are touched. Numba compiles this once for the
machine's vector unit and keeps the result in __pycache__ (or in NUMBA_CACHE_DIR).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest

from model.arrays.jit import compiled as compile_loops
from model.attention.cpu.dispatch import ACTIVATIONS
from model.attention.cpu.matmul import SHORT, TALL, add_short, add_tall, short, tall, transpose_tile
from model.attention.cpu.simd import (
    LANES,
    exp2,
    fetch,
    first,
    larger,
    largest,
    load,
    load_part,
    spread,
    store,
    store_part,
    total,
)

ROWS: Final = LANES  # of a block: keys are transposed tile by tile
SILU, SILU_SEEN, SOFTMAX = range(len(ACTIVATIONS))

SOURCES: Final = xxh3_64_hexdigest(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
)  # of all compiled files

Array = NDArray[Any]
_LOG2E: Final = np.float32(math.log2(math.e))
_ONE, _ZERO = np.float32(1), np.float32(0)
_LEAST: Final = np.float32(-np.inf)
_AHEAD: Final = 8  # rows that are prefetched before the loop reads them
P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function and inline it into its callers; sums may be taken in any (fixed) order.

    The function must not make arrays: there is no reference counting. Its name in numba's cache has a digest of all
    sources of this package, so these functions may call one another across files.
    """
    function.__qualname__ = f"{function.__qualname__}_{SOURCES}"
    return compile_loops(function, any_order=True, forceinline=True, _nrt=False)


@compiled
def exp(x: Any) -> Any:
    """Return e^x; the rounding of x log2(e) lets the relative error grow to 4e-6 at x = 60."""
    return exp2(x * _LOG2E)


@compiled
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e^-x)."""
    return _ONE / (_ONE + exp2(x * -_LOG2E))


def buffer(*shape: int) -> Array:
    """Return zeros, [..., rows, columns], with room for whole tiles; each row begins at a cache line.

    The distance of rows is no multiple of 512 bytes: else the entries of a column would share few of the cache's sets.
    """
    *others, rows, columns = shape
    wide = (columns + LANES - 1) // LANES * LANES + LANES
    zeros = aligned(*others, rows + LANES, wide + LANES if wide % 128 == 0 else wide)
    zeros.fill(0)
    return zeros


def aligned(*shape: int) -> Array:
    """Return an uninitialized float32 array that begins at a cache line."""
    out: Array = torch.empty(shape, dtype=torch.float32, device="cpu").numpy()
    return out


@compiled
def product(out: Array, a: Array, b: Array, rows: int, columns: int, k: int) -> None:
    """Write a[:rows, :k] @ b[:k, :columns] to out[:rows, :columns]; whole tiles are read and written."""
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
    """Write a[:rows] @ w to out[:rows]; the columns of w come in panels."""
    for p in range(len(w_PKC)):
        product(out[:, p * LANES :], a, w_PKC[p], rows, LANES, w_PKC.shape[1])


@compiled
def add_to_panels(gw_PKC: Array, a: Array, g: Array, rows: int, k: int) -> None:
    """Add a[:rows, :k] @ g[:k] to sums whose columns come in panels."""
    for p in range(len(gw_PKC)):
        add_product(gw_PKC[p], a, g[:, p * LANES :], rows, LANES, k)


@compiled
def transpose(out_dn: Array, at: int, a_nE: Array, first: int, column: int, width: int) -> None:
    """Write ROWS rows of a (from `first`), `width` columns (from `column`), to the columns of out_dn from `at` on."""
    for c in range(0, width, LANES):
        transpose_tile(out_dn, a_nE, c, at, first, column + c)


@compiled
def clear(out: Array, rows: int, columns: int) -> None:
    """Write zeros to whole vectors of the first rows."""
    for r in range(rows):
        for c in range(0, columns, LANES):
            store(out, r, c, spread(_ZERO))


@compiled
def sum_heads(out: Array, a: Array, h: int, rows: int, columns: int) -> None:
    """Write the first rows of a to out at the first head, and add them at the others."""
    for r in range(rows):
        for c in range(0, columns, LANES):
            store(out, r, c, load(a, r, c) if h == 0 else load(out, r, c) + load(a, r, c))


@compiled
def copy(out: Array, r: int, a: Array, s: int, width: int) -> None:
    """Copy row s of a to row r of out."""
    for c in range(0, width, LANES):
        store_part(out, r, c, load_part(a, s, c, width), width)


@compiled
def add_row(out: Array, r: int, a: Array, s: int) -> None:
    """Add row s of a to row r of out."""
    width = out.shape[1]
    for c in range(0, width, LANES):
        store_part(out, r, c, load_part(out, r, c, width) + load(a, s, c), width)


@compiled
def add_up(out: Array, r: int, x: Array, s: int, y: Array, t: int, b: Array, layer: int) -> None:
    """Write the sum of a row of x, one of y and one of b to a row of out."""
    width = out.shape[1]
    for c in range(0, width, LANES):
        terms = load_part(x, s, c, width) + load(y, t, c) + load_part(b, layer, c, width)
        store_part(out, r, c, terms, width)


@compiled
def silu(a: Array, r: int, width: int) -> None:
    """Apply silu to a row, in place."""
    for c in range(0, width, LANES):
        x = load(a, r, c)
        store(a, r, c, x * sigmoid(x))


@compiled
def load_slopes(a: Array, gz: Array, r: int, z: Array, s: int) -> None:
    """Write silu(z) to row r of a, and its derivative at z to gz, where `multiply` turns it into the gradient of z."""
    width = z.shape[1]
    for c in range(0, width, LANES):
        fetch(z, s + _AHEAD, c)
        x = load_part(z, s, c, width)
        slope = sigmoid(x)
        y = x * slope
        store(a, r, c, y)
        store(gz, r, c, slope + y * (_ONE - slope))


@compiled
def multiply(gz: Array, row: int, column: int, ga: Array, rows: int, width: int, scale: Any) -> None:
    """Multiply scale * the gradients of some rows and columns of a into gz."""
    for r in range(rows):
        for c in range(0, width, LANES):
            at, end = column + c, column + width
            store_part(gz, row + r, at, load_part(gz, row + r, at, end) * (load(ga, r, c) * scale), end)


@compiled
def norm(out: Array, r: int, x: Array, s: int, width: int, eps: Any) -> Any:
    """Write norm(row s of x) to row r of out; return 1 / its deviation."""
    mean, scale = _moments(x, s, width, eps)
    for c in range(0, width, LANES):
        store(out, r, c, (load_part(x, s, c, width) - mean) * scale)
    return scale


@compiled
def norm_back(g: Array, gn: Array, normed: Array, r: int, width: int, scale: Any) -> None:
    """Add to a row of g the gradient of x, from gn, the gradient of norm(x)."""
    sums, along = spread(_ZERO), spread(_ZERO)
    for c in range(0, width, LANES):
        own = load_part(gn, r, c, width)
        sums += own
        along += own * load_part(normed, r, c, width)
    mean, slope = total(sums) / np.float32(width), total(along) / np.float32(width)
    for c in range(0, width, LANES):
        own = load(gn, r, c) - mean - load(normed, r, c) * slope
        store(g, r, c, load(g, r, c) + own * scale)


@compiled
def weigh(scores: Array, bias: Array, i: int, rows: int, alpha: Any, phi: int, max_len: int) -> None:
    """Turn a block's products q·k into weights, in place; i is its first row."""
    for r in range(rows):
        last = i + r
        if phi == SOFTMAX:
            _softmax(scores, bias, r, i, last, alpha)
        else:
            factor = _ONE / np.float32(last + 1 if phi == SILU_SEEN else max_len)
            for j in range(0, i + ROWS, LANES):
                x = load(scores, r, j) * alpha + load(bias, r, j)
                store(scores, r, j, x * sigmoid(x) * factor)
            store(scores, r, i, first(load(scores, r, i), r + 1, _ZERO))


@compiled
def weigh_back(scores: Array, bias: Array, g: Array, i: int, rows: int, alpha: Any, phi: int, max_len: int) -> None:
    """Turn products into weights, and the gradients of the weights into those of the scores, both in place."""
    for r in range(rows):
        last = i + r
        if phi == SOFTMAX:
            _softmax(scores, bias, r, i, last, alpha)
            store(g, r, i, first(load(g, r, i), r + 1, _ZERO))
            sums = spread(_ZERO)
            for j in range(0, i + ROWS, LANES):
                sums += load(scores, r, j) * load(g, r, j)
            mean = total(sums)
            for j in range(0, i + ROWS, LANES):
                store(g, r, j, load(scores, r, j) * (load(g, r, j) - mean))
        else:
            factor = _ONE / np.float32(last + 1 if phi == SILU_SEEN else max_len)
            for j in range(0, i + ROWS, LANES):
                x = load(scores, r, j) * alpha + load(bias, r, j)
                slope = sigmoid(x)
                y = x * slope
                store(scores, r, j, y * factor)
                store(g, r, j, load(g, r, j) * ((slope + y * (_ONE - slope)) * factor))
            store(scores, r, i, first(load(scores, r, i), r + 1, _ZERO))
            store(g, r, i, first(load(g, r, i), r + 1, _ZERO))


@compiled
def _softmax(scores: Array, bias: Array, r: int, i: int, last: int, alpha: Any) -> None:
    most = spread(_LEAST)
    for j in range(0, i + ROWS, LANES):
        x = first(load(scores, r, j) * alpha + load(bias, r, j), last + 1 - j, _LEAST)
        store(scores, r, j, x)
        most = larger(most, x)
    top, sums = largest(most), spread(_ZERO)
    for j in range(0, i + ROWS, LANES):
        weight = exp(load(scores, r, j) - top)
        store(scores, r, j, weight)
        sums += weight
    factor = _ONE / total(sums)
    for j in range(0, i + ROWS, LANES):
        store(scores, r, j, load(scores, r, j) * factor)
    store(scores, r, i, first(load(scores, r, i), r + 1, _ZERO))


@compiled
def gate(y: Array, o: Array, a: Array, row: int, r: int, width: int, eps: Any) -> None:
    """Write u * norm(row r of o) to row `row` of y; u is the first columns of a = silu(z)."""
    mean, scale = _moments(o, r, width, eps)
    for c in range(0, width, LANES):
        store(y, row, c, load(a, row, c) * ((load(o, r, c) - mean) * scale))


@compiled
def gate_back(
    y: Array, gz: Array, go: Array, gy: Array, o: Array, a: Array, row: int, own: int, r: int, width: int, eps: Any
) -> None:
    """At one token, write y again and row r of the gradient of o, and multiply the gradient of u into gz."""
    mean, scale = _moments(o, own, width, eps)
    sums, along = spread(_ZERO), spread(_ZERO)
    for c in range(0, width, LANES):
        normed, u, g = (load_part(o, own, c, width) - mean) * scale, load_part(a, row, c, width), load(gy, row, c)
        store(y, row, c, u * normed)
        store_part(gz, row, c, load_part(gz, row, c, width) * (g * normed), width)
        sums += g * u
        along += g * u * normed
    g_mean, slope = total(sums) / np.float32(width), total(along) / np.float32(width)
    for c in range(0, width, LANES):
        normed, g = (load_part(o, own, c, width) - mean) * scale, load(gy, row, c) * load(a, row, c)
        store(go, r, c, (g - g_mean - normed * slope) * scale)


@compiled
def _moments(x: Array, r: int, width: int, eps: Any) -> Any:
    sums, squares = spread(_ZERO), spread(_ZERO)
    for c in range(0, width, LANES):
        sums += load_part(x, r, c, width)
    mean = total(sums) / np.float32(width)
    for c in range(0, width, LANES):
        centred = first(load_part(x, r, c, width) - mean, width - c, _ZERO)
        squares += centred * centred
    return mean, _ONE / np.sqrt(total(squares) / np.float32(width) + eps)
