"""Products of small matrices whose sums stay in registers: the one thing that compiled loops do not give.

A tile is a few rows by LANES columns of out = a @ b: for each k a vector of b is read once, and to each row's sum a
scalar of a times that vector is added. Numba cannot be told to keep such sums in registers from one k to the next, so
a tile is written in LLVM's own terms (`numba.extending.intrinsic`); vectors of 16 float32 are one register in AVX-512
and two in AVX2. Arrays are float32[rows, columns]; `a` may be a transposed view, rows of `b` and `out` are contiguous.
"""

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from model.compiled import ANY_ORDER

LANES: Final = 16
TALL: Final = 8 if get_host_cpu_features().get("avx512f") else 4  # 16 registers hold no more than 4 sums of 2 each
SHORT: Final = 4

_F32, _I32, _I64, _BYTE = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
_VECTOR: Final = ir.VectorType(_F32, LANES)
_UNDEFINED: Final = ir.Constant(_VECTOR, ir.Undefined)
_FIRST: Final = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)


class _Rows:
    """Addresses in a float32[rows, columns] whose row and column strides are only known at run time."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any) -> None:
        struct = cgutils.create_struct_proxy(array_type)(context, builder, value=array)  # type: ignore[no-untyped-call]
        self.builder = builder
        self.start = builder.bitcast(struct.data, _BYTE)
        self.strides = cgutils.unpack_tuple(builder, struct.strides)  # type: ignore[no-untyped-call]

    def at(self, row: Any, column: Any, kind: Any) -> Any:
        """Give a pointer to an entry."""
        build = self.builder
        steps = (build.mul(at, stride) for at, stride in zip((row, column), self.strides, strict=True))
        return build.bitcast(build.gep(self.start, [build.add(*steps)]), kind.as_pointer())

    def load(self, row: Any, column: Any) -> Any:
        """Read LANES entries of a row."""
        return self.builder.load(self.at(row, column, _VECTOR), align=4)

    def store(self, value: Any, row: Any, column: Any) -> None:
        """Write LANES entries of a row."""
        self.builder.store(value, self.at(row, column, _VECTOR), align=4)

    def spread(self, row: Any, column: Any) -> Any:
        """Read one entry into all lanes."""
        build = self.builder
        one = build.insert_element(_UNDEFINED, build.load(self.at(row, column, _F32)), _I32(0))
        return build.shuffle_vector(one, _UNDEFINED, _FIRST)


def _tile(rows: int, *, add: bool) -> Callable[..., None]:
    """Give tile(out, a, b, r, c, k): out[r:r+rows, c:c+LANES] = a[r:r+rows, :k] @ b[:k, c:c+LANES], or += with add."""

    def tile(_: Any, out: Any, a: Any, b: Any, r: Any, c: Any, k: Any) -> Any:
        def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
            out, a, b = (_Rows(context, build, *pair) for pair in zip(signature.args[:3], given[:3], strict=True))
            r, c, k = given[3:]
            at = [build.add(r, _I64(row)) for row in range(rows)]
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            firsts = [out.load(row, c) if add else zero for row in at]
            before, loop, end = build.block, build.append_basic_block(), build.append_basic_block()
            build.cbranch(build.icmp_signed("<", _I64(0), k), loop, end)

            build.position_at_end(loop)
            step, *sums = (build.phi(kind) for kind in (_I64, *[_VECTOR] * rows))
            vector = b.load(step, c)
            nexts = [
                build.fadd(so_far, build.fmul(a.spread(row, step), vector, flags=ANY_ORDER), flags=ANY_ORDER)
                for row, so_far in zip(at, sums, strict=True)
            ]
            following = build.add(step, _I64(1))
            for phi, first, then in zip((step, *sums), (_I64(0), *firsts), (following, *nexts), strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(then, loop)
            build.cbranch(build.icmp_signed("<", following, k), loop, end)

            build.position_at_end(end)
            totals = [build.phi(_VECTOR) for _ in at]
            for row, total, first, then in zip(at, totals, firsts, nexts, strict=True):
                total.add_incoming(first, before)
                total.add_incoming(then, loop)
                out.store(total, row, c)
            return context.get_dummy_value()

        return _void((out, a, b), 3), code

    tile.__name__ = f"tile_{rows}_{'add' if add else 'set'}"
    return intrinsic(tile)


def _transposition(_: Any, out: Any, a: Any, out_row: Any, out_column: Any, row: Any, column: Any) -> Any:
    """Let out[out_row + c, out_column + r] be a[row + r, column + c] for all r, c < LANES."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        out, a = (_Rows(context, build, *pair) for pair in zip(signature.args[:2], given[:2], strict=True))
        out_row, out_column, row, column = given[2:]
        half = LANES // 2
        vectors = [a.load(build.add(row, _I64(r)), column) for r in range(LANES)]
        for _ in range(4):  # interleaving rows i and i + 8 turns the 8 bits of (row, lane) by one
            vectors = [
                build.shuffle_vector(vectors[i], vectors[i + half], _interleaved(first))
                for i in range(half)
                for first in (0, half)
            ]
        for c, vector in enumerate(vectors):
            out.store(vector, build.add(out_row, _I64(c)), out_column)
        return context.get_dummy_value()

    return _void((out, a), 4), code


transpose_tile: Callable[..., None] = intrinsic(_transposition)


def _void(arrays: tuple[Any, ...], places: int) -> Any:
    """Give the signature of what takes float32 matrices, and nothing else, and places in them."""
    if any(array.ndim != 2 or array.dtype != types.float32 for array in arrays):
        raise TypingError(f"tiles are of float32 matrices, not of {arrays}")
    return types.void(*arrays, *[types.int64] * places)


def _interleaved(first: int) -> Any:
    lanes = [lane + side for lane in range(first, first + LANES // 2) for side in (0, LANES)]
    return ir.Constant(ir.VectorType(_I32, LANES), lanes)


tall, short = _tile(TALL, add=False), _tile(SHORT, add=False)
add_tall, add_short = _tile(TALL, add=True), _tile(SHORT, add=True)
