"""Vectors of LANES float32 as a type of compiled loops: one instruction for 16 entries.

Without it numba leaves it to LLVM to vectorize a loop over entries. Rows are short here, 32 to 256 entries, and such a
loop begins with a test whether its arrays overlap and ends with a remainder, which costs as much as the work itself.
A Vector is one register in AVX-512 and two in AVX2. It can be added, subtracted, multiplied and divided by another
vector and by a float32. Arrays are float32[rows, columns] with contiguous rows. Functions that read or write whole
vectors need room for them (row_ops.buffer); those with `_part` touch only columns before `end`. Whether sums may be
taken in any order is an option of the compiled function (arrays/jit.py).
"""

import math
import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES: Final = 16
F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_BYTE: Final = ir.IntType(8).as_pointer()
VECTOR: Final = ir.VectorType(F32, LANES)
INTEGERS: Final = ir.VectorType(I32, LANES)
UNDEFINED: Final = ir.Constant(VECTOR, ir.Undefined)
FIRST: Final = ir.Constant(INTEGERS, [0] * LANES)
_NUMBERS: Final = ir.Constant(INTEGERS, list(range(LANES)))
_MOST: Final = 60 * math.log2(math.e)
_ROUND: Final = 1.5 * 2.0**23 + 127  # added to t, it leaves the nearest integer in the low bits, plus a float's bias
_AS_WRITTEN: Final = ("nsz",)  # with a flag of its own an instruction gets none of numba's, such as to reorder terms
_EXP2: Final = np.polynomial.Chebyshev.interpolate(np.exp2, 5, (-0.5, 0.5)).convert(kind=np.polynomial.Polynomial).coef


class VectorType(types.Type):
    """LANES float32."""

    def __init__(self) -> None:
        super().__init__("Vector")


Vector: Final = VectorType()


@register_model(VectorType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)  # type: ignore[no-untyped-call]


class Rows:
    """Addresses in a float32[rows, columns] whose strides are only known at run time."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any) -> None:
        struct = cgutils.create_struct_proxy(array_type)(context, builder, value=array)  # type: ignore[no-untyped-call]
        self.builder = builder
        self.start = builder.bitcast(struct.data, _BYTE)
        self.strides = cgutils.unpack_tuple(builder, struct.strides)  # type: ignore[no-untyped-call]
        if array_type.layout == "C":
            self.strides[1] = I64(4)

    def at(self, row: Any, column: Any, kind: Any) -> Any:
        """Return a pointer to an entry."""
        build = self.builder
        steps = (build.mul(at, stride) for at, stride in zip((row, column), self.strides, strict=True))
        return build.bitcast(build.gep(self.start, [build.add(*steps)]), kind.as_pointer())

    def load(self, row: Any, column: Any) -> Any:
        """Read LANES entries of a row."""
        return self.builder.load(self.at(row, column, VECTOR), align=4)

    def store(self, value: Any, row: Any, column: Any) -> None:
        """Write LANES entries of a row."""
        self.builder.store(value, self.at(row, column, VECTOR), align=4)

    def spread(self, row: Any, column: Any) -> Any:
        """Read one entry into all lanes."""
        return _spread(self.builder, self.builder.load(self.at(row, column, F32)))


def _spread(build: Any, value: Any) -> Any:
    return build.shuffle_vector(build.insert_element(UNDEFINED, value, I32(0)), UNDEFINED, FIRST)


def same(number: float) -> Any:
    """Return a constant vector."""
    return ir.Constant(VECTOR, [number] * LANES)


def _below(build: Any, count: Any) -> Any:
    """Return a mask of the first `count` lanes, or of all lanes if `count` is larger."""
    most = build.select(build.icmp_signed("<", count, I64(LANES)), count, I64(LANES))
    wide = build.insert_element(ir.Constant(INTEGERS, ir.Undefined), build.trunc(most, I32), I32(0))
    return build.icmp_signed("<", _NUMBERS, build.shuffle_vector(wide, wide, FIRST))


def _call(build: Any, name: str, kind: Any, *args: Any) -> Any:
    of = ir.FunctionType(kind, [arg.type for arg in args])
    return build.call(cgutils.get_or_insert_function(build.module, of, name), args)  # type: ignore[no-untyped-call]


def matrices(*arrays: Any) -> tuple[Any, ...]:
    """Return the types of arrays, or raise TypingError if one is no float32 matrix."""
    if any(array.ndim != 2 or array.dtype != types.float32 for array in arrays):
        raise TypingError(f"vectors are read from float32 matrices, not from {arrays}")
    return arrays


Typed = tuple[Any, Callable[..., Any]]  # a signature, and a function that generates its code


def instruction(typed: Callable[..., Typed]) -> Callable[..., Any]:
    """Make a function that compiled loops can call; typed as it is called, without numba's context."""
    made: Callable[..., Any] = intrinsic(typed)
    return made


@instruction
def load(_: Any, a: Any, r: Any, c: Any) -> Typed:
    """Read a[r, c : c + LANES]."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        return Rows(context, build, signature.args[0], given[0]).load(*given[1:])

    return Vector(*matrices(a), types.int64, types.int64), code


@instruction
def store(_: Any, a: Any, r: Any, c: Any, value: Any) -> Typed:
    """Write a[r, c : c + LANES]."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        Rows(context, build, signature.args[0], given[0]).store(given[3], *given[1:3])
        return context.get_dummy_value()

    return types.void(*matrices(a), types.int64, types.int64, Vector), code


@instruction
def load_part(_: Any, a: Any, r: Any, c: Any, end: Any) -> Typed:
    """Read a[r, c : c + LANES], zeros from column `end` on."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        array, row, column, end = given
        at = Rows(context, build, signature.args[0], array).at(row, column, VECTOR)
        mask = _below(build, build.sub(end, column))
        return _call(build, "llvm.masked.load.v16f32.p0", VECTOR, at, I32(4), mask, same(0.0))

    return Vector(*matrices(a), types.int64, types.int64, types.int64), code


@instruction
def store_part(_: Any, a: Any, r: Any, c: Any, value: Any, end: Any) -> Typed:
    """Write a[r, c : c + LANES] without columns from `end` on."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        array, row, column, value, end = given
        at = Rows(context, build, signature.args[0], array).at(row, column, VECTOR)
        mask = _below(build, build.sub(end, column))
        _call(build, "llvm.masked.store.v16f32.p0", ir.VoidType(), value, at, I32(4), mask)
        return context.get_dummy_value()

    return types.void(*matrices(a), types.int64, types.int64, Vector, types.int64), code


@instruction
def fetch(_: Any, a: Any, r: Any, c: Any) -> Typed:
    """Prefetch the cache line of a[r, c]; r may be beyond the array."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        at = Rows(context, build, signature.args[0], given[0]).at(given[1], given[2], F32)
        _call(build, "llvm.prefetch.p0", ir.VoidType(), at, I32(0), I32(3), I32(1))
        return context.get_dummy_value()

    return types.void(*matrices(a), types.int64, types.int64), code


@instruction
def spread(_: Any, number: Any) -> Typed:
    """Return a vector of equal entries."""
    return Vector(types.float32), lambda context, build, signature, given: _spread(build, given[0])


@instruction
def first(_: Any, value: Any, count: Any, other: Any) -> Typed:
    """Return the vector with its entries from `count` on replaced by `other`."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        return build.select(_below(build, given[1]), given[0], _spread(build, given[2]))

    return Vector(Vector, types.int64, types.float32), code


@instruction
def larger(_: Any, x: Any, y: Any) -> Typed:
    """Return the larger of each two entries, that of y if one is NaN."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        return build.select(build.fcmp_ordered(">", *given), *given)

    return Vector(Vector, Vector), code


@instruction
def smaller(_: Any, x: Any, y: Any) -> Typed:
    """Return the smaller of each two entries, that of y if one is NaN."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        return build.select(build.fcmp_ordered("<", *given), *given)

    return Vector(Vector, Vector), code


@instruction
def total(_: Any, value: Any) -> Typed:
    """Return the sum of all entries."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        return _call(build, "llvm.vector.reduce.fadd.v16f32", F32, F32(0.0), given[0])

    return types.float32(Vector), code


@instruction
def largest(_: Any, value: Any) -> Typed:
    """Return the largest entry."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        return _call(build, "llvm.vector.reduce.fmax.v16f32", F32, given[0])

    return types.float32(Vector), code


@instruction
def exp2(_: Any, t: Any) -> Typed:
    """Return 2^t as 2^(n + f) = 2^n * series(f), n the integer nearest to t; NaN stays NaN.

    The relative error is below 3e-7. t is clamped to +-60 log2(e): e^-60 is negligible, and quotients of e^60 do not
    overflow in any order.
    """

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        most, least = same(_MOST), same(-_MOST)
        t = build.select(build.fcmp_ordered(">", given[0], most), most, given[0])
        t = build.select(build.fcmp_ordered("<", t, least), least, t)
        rounded = build.fadd(t, same(_ROUND), flags=_AS_WRITTEN)
        f = build.fsub(t, build.fsub(rounded, same(_ROUND), flags=_AS_WRITTEN), flags=_AS_WRITTEN)
        series = same(_EXP2[-1])
        for factor in _EXP2[-2::-1]:
            series = build.fadd(build.fmul(series, f), same(factor))
        power = build.shl(build.bitcast(rounded, INTEGERS), ir.Constant(INTEGERS, [23] * LANES))
        return build.fmul(series, build.bitcast(power, VECTOR))

    return Vector(Vector), code


def _operator(function: Callable[..., Any], name: str) -> None:
    """Define an operator for two vectors, and for a vector and a float32."""

    @infer_global(function)  # type: ignore[no-untyped-call]
    class Template(AbstractTemplate):
        def generic(self, args: Any, _: Any) -> Any:
            kinds = set(args)
            return signature(Vector, *args) if Vector in kinds and kinds <= {Vector, types.float32} else None  # type: ignore[no-untyped-call]

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        both = (x if kind == Vector else _spread(build, x) for kind, x in zip(signature.args, given, strict=True))
        return getattr(build, name)(*both)

    for kinds in ((Vector, Vector), (Vector, types.float32), (types.float32, Vector)):
        lower_builtin(function, *kinds)(code)  # type: ignore[no-untyped-call]


for _name in ("add", "sub", "mul", "truediv"):
    for _function in (getattr(operator, _name), getattr(operator, f"i{_name}")):
        _operator(_function, f"f{_name.removeprefix('true')}")
