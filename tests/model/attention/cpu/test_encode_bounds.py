"""Compiled loops check no bounds: here the same code runs as Python, and every access must lie within its array."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from model.attention.cpu import bias as cpu_bias, matmul, row_ops, simd
from model.attention.cpu.row_ops import Array
from tests.model.attention.cpu.cpu_cases import Case, far_apart
from tests.model.attention.cpu.test_extend import KINDS, encoder_of, extender_of, nothing, tokens

LANES = simd.LANES
ROOT = Path(__file__).parents[4]


def inside(array: Array, rows: int, columns: int) -> None:
    assert 0 <= rows <= array.shape[0], (rows, array.shape)
    assert 0 <= columns <= array.shape[1], (columns, array.shape)


def tiles() -> dict[str, Callable[..., None]]:
    """Return products and transpositions of tiles in NumPy that fail if a tile exceeds an array."""

    def tile(height: int, *, add: bool) -> Callable[..., None]:
        def run(out: Array, a: Array, b: Array, r: int, c: int, k: int) -> None:
            inside(out, r + height, c + LANES)
            inside(a, r + height, k)
            inside(b, k, c + LANES)
            before = out[r : r + height, c : c + LANES]
            before[:] = a[r : r + height, :k] @ b[:k, c : c + LANES] + (before if add else 0)

        return run

    def transpose(out: Array, a: Array, out_row: int, out_column: int, row: int, column: int) -> None:
        inside(out, out_row + LANES, out_column + LANES)
        inside(a, row + LANES, column + LANES)
        block = a[row : row + LANES, column : column + LANES]
        out[out_row : out_row + LANES, out_column : out_column + LANES] = block.T

    made = {
        f"{'add_' if add else ''}{name}": tile(height, add=add)
        for name, height in (("tall", matmul.TALL), ("short", matmul.SHORT))
        for add in (False, True)
    }
    return {**made, "transpose_tile": transpose}


def vectors() -> dict[str, Callable[..., Any]]:
    """Return the operations of vectors in NumPy; a read or write beyond an array fails."""

    def load_part(a: Array, r: int, c: int, end: int) -> Array:
        inside(a, r + 1, min(c + LANES, end))
        assert min(r, c) >= 0
        out, own = np.zeros(LANES, np.float32), a[r, c : min(c + LANES, end)]
        out[: len(own)] = own
        return out

    def store_part(a: Array, r: int, c: int, value: Array, end: int) -> None:
        inside(a, r + 1, min(c + LANES, end))
        assert min(r, c) >= 0
        a[r, c : min(c + LANES, end)] = value[: max(end - c, 0)]

    return {
        "load": lambda a, r, c: load_part(a, r, c, c + LANES),
        "store": lambda a, r, c, value: store_part(a, r, c, value, c + LANES),
        "load_part": load_part,
        "store_part": store_part,
        "fetch": lambda a, r, c: None,
        "spread": lambda number: np.full(LANES, number, np.float32),
        "first": lambda value, count, other: np.where(np.arange(LANES) < count, value, np.float32(other)),
        "larger": lambda x, y: np.where(x > y, x, y),
        "smaller": lambda x, y: np.where(x < y, x, y),
        "total": np.sum,
        "largest": np.max,
        "exp2": lambda t: np.exp2(np.clip(t, -86, 86)),
    }


def case(lengths: list[int], dim: int, heads: int, d_qk: int, d_v: int, activation: str, bias: str) -> Case:
    return Case(lengths, dim, heads, d_qk, d_v, 0.5, activation, bias, 2, 7)


CASES = [
    case([20, 3, 0, 17, 1, 40], 6, 2, 5, 4, "silu", "bucketed"),
    case([16, 32], 16, 1, 16, 16, "softmax", "functional"),
    case([33, 1], 17, 3, 1, 17, "silu_seen", "none"),
    case([150], 4, 1, 4, 4, "softmax", "bucketed"),
]


def test_every_tile_and_vector_lies_within_its_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """For lengths and widths near a tile's; the numbers are those of the loops in float64."""
    if not numba.config.DISABLE_JIT:
        command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", __file__]
        slow = os.environ | {"NUMBA_DISABLE_JIT": "1"}
        done = subprocess.run(command, cwd=ROOT, env=slow, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return
    for module, name in itertools.product((row_ops, cpu_bias), checked := tiles() | vectors()):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, checked[name])
    with np.errstate(all="ignore"):
        for chosen in CASES:
            assert far_apart(chosen.fast(), chosen.slow()) < 2e-5
        for settings in KINDS:
            ours, (x, ts_ms, asked_ms) = extender_of(encoder_of(**settings)), tokens(settings["dim"])
            whole, state = ours.extend(x[:33], nothing(ours), ts_ms[:33], asked_ms[:33])
            for p in (16, 32):
                found, _ = ours.extend(x[p:33], state[:, :p], ts_ms[:33], asked_ms[:33])
                assert far_apart([found], [whole[p:]]) < 2e-5
