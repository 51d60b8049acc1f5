from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numba.core.errors import TypingError

from model.attention.cpu import row_ops
from model.attention.cpu.row_ops import Array, compiled
from model.attention.cpu.simd import (
    LANES,
    exp2,
    fetch,
    first,
    larger,
    largest,
    load,
    load_part,
    smaller,
    spread,
    store,
    store_part,
    total,
)


@compiled
def _arithmetic(out: Array, a: Array, b: Any) -> None:
    x, y = load(a, 0, 0), load(a, 1, 0)
    store(out, 0, 0, (x + y) * (x - y) / (y + b))
    store(out, 1, 0, b - x / b)
    sums = spread(b)
    sums += x
    sums *= b
    sums -= y
    sums /= y
    store(out, 2, 0, sums)


@compiled
def _part(out: Array, a: Array, r: int, c: int, end: int, to: int) -> None:
    store_part(out, r, c, load_part(a, r, c, end), to)


@compiled
def _first(out: Array, a: Array, count: int, other: Any) -> None:
    store(out, 0, 0, first(load(a, 0, 0), count, other))


@compiled
def _folds(out: Array, a: Array) -> None:
    x, y = load(a, 0, 0), load(a, 1, 0)
    store(out, 0, 0, larger(x, y))
    store(out, 1, 0, smaller(x, y))
    out[2, 0], out[2, 1] = total(x), largest(x)


@compiled
def _each(out: Array, a: Array, what: int) -> None:
    for r in range(len(a)):
        for c in range(0, a.shape[1], LANES):
            x = load(a, r, c)
            store(out, r, c, exp2(x) if what == 0 else row_ops.exp(x) if what == 1 else row_ops.sigmoid(x))


@numba.njit
def _far(a: Array) -> None:
    fetch(a, 1 << 40, 3)


def normal(rows: int, columns: int = LANES) -> Array:
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


def test_arithmetic_is_that_of_numpy() -> None:
    """Between vectors, and with a number on either side, in place as well."""
    a, b, out = normal(2), np.float32(3), np.zeros((3, LANES), np.float32)
    _arithmetic(out, a, b)
    x, y = a
    assert np.allclose(out, [(x + y) * (x - y) / (y + b), b - x / b, ((b + x) * b - y) / y], rtol=1e-5)


@given(st.integers(0, 2), st.integers(0, 30), st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_a_part_leaves_the_rest_alone(r: int, c: int, end: int, to: int) -> None:
    """Columns from `end` on read as zero, and are not written, wherever a vector begins."""
    a, out = normal(3, 40), np.full((3, 40), 7, np.float32)
    end, to = min(end, 40), min(to, 40)
    _part(out, a, r, c, end, to)
    wanted = np.full((3, 40), 7, np.float32)
    for column in range(c, min(c + LANES, to)):
        wanted[r, column] = a[r, column] if column < end else 0
    assert np.array_equal(out, wanted)


@pytest.mark.parametrize("count", [-3, 0, 1, 15, 16, 17, 1 << 40])
def test_the_first_of_a_vector(count: int) -> None:
    """For any count, also zero, negative and more than there are."""
    a, out = normal(1), np.zeros((1, LANES), np.float32)
    _first(out, a, count, np.float32(-5))
    assert np.array_equal(out[0], np.where(np.arange(LANES) < count, a[0], -5))


def test_sums_and_extremes() -> None:
    """Of a vector's entries, and of two vectors entry by entry."""
    a, out = normal(2), np.zeros((3, LANES), np.float32)
    _folds(out, a)
    assert np.array_equal(out[:2], [a.max(0), a.min(0)])
    assert out[2, 0] == pytest.approx(a[0].sum(), rel=1e-5)
    assert out[2, 1] == a[0].max()


EXACT: list[tuple[int, Callable[[Any], Any], float]] = [
    (0, np.exp2, 3e-7),
    (1, np.exp, 6e-6),
    (2, lambda x: 1 / (1 + np.exp(-x)), 6e-6),
]


@pytest.mark.parametrize(("what", "exact", "error"), EXACT)
def test_exponentials_are_those_of_float32(what: int, exact: Callable[[Any], Any], error: float) -> None:
    """The relative error is below 4e-7 for small arguments; for large ones it is that of the argument's rounding."""
    for most, allowed in ((1, 4e-7), (60, error)):
        x = np.linspace(-most, most, 100_000, dtype=np.float32).reshape(-1, LANES)
        found = np.empty_like(x)
        _each(found, x, what)
        assert np.abs(found / exact(x.astype(np.float64)) - 1).max() < allowed


def test_exponentials_saturate_and_keep_nan() -> None:
    """Beyond e^60 the result stays constant; a NaN stays NaN."""
    x = np.array([[-np.inf, -1e30, -60, 60, 1e30, np.inf, np.nan, -np.nan] * 2], np.float32)
    found = np.empty_like(x)
    _each(found, x, 1)
    assert found[0, :6].tolist() == [*[found[0, 2]] * 3, *[found[0, 3]] * 3]
    assert np.isnan(found[0, 6:8]).all()


def test_a_prefetch_is_compiled_and_changes_nothing() -> None:
    """Rows beyond the last one may be prefetched: the instruction exists, and it neither fails nor writes."""
    a = normal(1)
    _far(a)
    assert np.array_equal(a, normal(1))
    assert "@llvm.prefetch" in _far.inspect_llvm(_far.signatures[0])


def test_other_arrays_are_refused() -> None:
    """A vector has float32: the bytes of a float64 array would be misread."""
    with pytest.raises(TypingError, match="float32 matrices"):
        _first(normal(1), normal(1).astype(np.float64), 1, np.float32(0))
