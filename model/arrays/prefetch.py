"""An instruction of compiled loops that asks for a cache line before it is read, so that waits for memory overlap."""

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTE: Final = ir.IntType(8).as_pointer()
_I32: Final = ir.IntType(32)
_SOON: Final = [_I32(number) for number in (0, 3, 1)]  # to be read, kept in all caches, data


def _prefetch(_: Any, array: Any, row: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the type of `prefetch(array, row)`, and what writes it: the first bytes of a row will be read soon."""

    def code(context: Any, build: Any, signature: Any, given: Any) -> Any:
        struct = cgutils.create_struct_proxy(signature.args[0])(context, build, value=given[0])  # type: ignore[no-untyped-call]
        stride, *_ = cgutils.unpack_tuple(build, struct.strides)  # type: ignore[no-untyped-call]
        at = build.gep(build.bitcast(struct.data, _BYTE), [build.mul(given[1], stride)])
        kind = ir.FunctionType(ir.VoidType(), [_BYTE, _I32, _I32, _I32])
        build.call(build.module.declare_intrinsic("llvm.prefetch", [_BYTE], kind), [at, *_SOON])
        return context.get_dummy_value()

    return types.void(array, row), code


prefetch: Callable[..., None] = intrinsic(_prefetch)
