"""Loops compiled by numba at their first call, for the machine's own vector unit."""

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")
ANY_ORDER: Final = ("reassoc", "contract", "arcp", "nsz")  # LLVM's flags for it; NaN and infinity keep their meaning


def compiled(function: Callable[P, R], *, any_order: bool = False, **more: bool) -> Callable[P, R]:
    """Compile a function, let other threads run in it, and keep the result beside its file if that can be written.

    It may call functions of its own file alone: numba looks at no other file to see whether what it kept is old.
    `any_order` lets sums be taken in any (fixed) order; else they are rounded as written. More are options of numba's.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", **more}
    if any_order:
        options["fastmath"] = set(ANY_ORDER)
        function.__qualname__ += "_" + "_".join(ANY_ORDER)  # numba sees no change of flags either
    try:
        kept = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that could be written
        kept = numba.njit(**options)(function)
    return cast(Callable[P, R], kept)
