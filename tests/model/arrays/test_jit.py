from typing import Any

import numba
import numpy as np
import pytest

from model.arrays.jit import ANY_ORDER, compiled


def _sum(numbers: Any) -> Any:
    total = np.float32(0)
    for number in numbers:
        total += number
    return total


def test_sums_are_rounded_as_written() -> None:
    """In float32, adding 1 to 1e8 changes nothing; partial sums of the ones would."""
    assert compiled(_sum)(np.array([1e8, *[1.0] * 64], np.float32)) == np.float32(1e8)


def test_the_cache_tells_the_flags_apart() -> None:
    """Numba's cache goes by the name, so that a function compiled with any order has another one."""

    def own(x: float) -> float:
        return x + 1

    before = own.__qualname__
    assert compiled(own).__qualname__ == before
    assert compiled(own, any_order=True).__qualname__ == "_".join((before, *ANY_ORDER))


def test_without_a_folder_for_the_cache_it_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a package is installed read-only and NUMBA_CACHE_DIR is not set."""
    njit = numba.njit

    def without_folder(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", without_folder)
    assert compiled(_sum)(np.ones(3, np.float32)) == 3
