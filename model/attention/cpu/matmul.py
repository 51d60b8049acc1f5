"""Products of small matrices whose sums stay in registers.

A tile is a few rows by LANES columns of out = a @ b. For each k a vector of b is read once, and a scalar of a times
that vector is added to each row's sum. Numba offers no way to keep such sums in registers from one k to the next, so a
tile is written as LLVM instructions (simd.py). Arrays are float32[rows, columns]; `a` may be a transposed view, rows of
`b` and `out` are contiguous.
"""

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types

from model.attention.cpu.simd import I64, INTEGERS, LANES, VECTOR, Rows, instruction, matrices, same

TALL: Final = 8 if get_host_cpu_features().get("avx512f") else 4  # 16 registers hold no more than 4 sums of 2 each
SHORT: Final = 4


def _tile(rows: int, *, add: bool) -> Callable[..., None]:
    """Return tile(out, a, b, r, c, k): out[r:r+rows, c:c+LANES] = (with add: +=) a[r:r+rows, :k] @ b[:k, c:c+LANES]."""

    def tile(_: Any, out: Any, a: Any, b: Any, r: Any, c: Any, k: Any) -> Any:
        def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
            out, a, b = (Rows(context, build, *pair) for pair in zip(signature.args[:3], given[:3], strict=True))
            r, c, k = given[3:]
            at = [build.add(r, I64(row)) for row in range(rows)]
            firsts = [out.load(row, c) if add else same(0.0) for row in at]
            before, loop, end = build.block, build.append_basic_block(), build.append_basic_block()
            build.cbranch(build.icmp_signed("<", I64(0), k), loop, end)

            build.position_at_end(loop)
            step, *sums = (build.phi(kind) for kind in (I64, *[VECTOR] * rows))
            vector = b.load(step, c)
            nexts = [
                build.fadd(so_far, build.fmul(a.spread(row, step), vector))
                for row, so_far in zip(at, sums, strict=True)
            ]
            following = build.add(step, I64(1))
            for phi, first, then in zip((step, *sums), (I64(0), *firsts), (following, *nexts), strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(then, loop)
            build.cbranch(build.icmp_signed("<", following, k), loop, end)

            build.position_at_end(end)
            totals = [build.phi(VECTOR) for _ in at]
            for row, total, first, then in zip(at, totals, firsts, nexts, strict=True):
                total.add_incoming(first, before)
                total.add_incoming(then, loop)
                out.store(total, row, c)
            return context.get_dummy_value()

        return _void((out, a, b), 3), code

    tile.__name__ = f"tile_{rows}_{'add' if add else 'set'}"
    return instruction(tile)


def _transposition(_: Any, out: Any, a: Any, out_row: Any, out_column: Any, row: Any, column: Any) -> Any:
    """Write a[row + r, column + c] to out[out_row + c, out_column + r] for all r, c < LANES."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        out, a = (Rows(context, build, *pair) for pair in zip(signature.args[:2], given[:2], strict=True))
        out_row, out_column, row, column = given[2:]
        half = LANES // 2
        vectors = [a.load(build.add(row, I64(r)), column) for r in range(LANES)]
        for _ in range(4):  # interleaving rows i and i + 8 rotates the 8 bits of (row, lane) by one
            vectors = [
                build.shuffle_vector(vectors[i], vectors[i + half], _interleaved(first))
                for i in range(half)
                for first in (0, half)
            ]
        for c, vector in enumerate(vectors):
            out.store(vector, build.add(out_row, I64(c)), out_column)
        return context.get_dummy_value()

    return _void((out, a), 4), code


transpose_tile = instruction(_transposition)


def _void(arrays: tuple[Any, ...], places: int) -> Any:
    """Return the signature of a function of float32 matrices and of indices into them."""
    return types.void(*matrices(*arrays), *[types.int64] * places)


def _interleaved(first: int) -> Any:
    lanes = [lane + side for lane in range(first, first + LANES // 2) for side in (0, LANES)]
    return ir.Constant(INTEGERS, lanes)


tall, short = _tile(TALL, add=False), _tile(SHORT, add=False)
add_tall, add_short = _tile(TALL, add=True), _tile(SHORT, add=True)
