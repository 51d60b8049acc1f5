"""Jagged batches for the tests of attention and of encoders: golden files, random cases, attention by tiles."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from model.attention import tile_plan
from model.attention.activations import ACTIVATIONS, activation_named
from model.attention.tile_plan import plan_tiles
from model.attention.tiled import BiasOf, attend_tiled

GOLDEN = Path(__file__).parents[2] / "golden"


def tiled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    *,
    max_len: int,
    alpha: float,
    activation: str = "silu",
    num_targets: Tensor | None = None,
    window: int = 0,
    bias: Tensor | BiasOf | None = None,
) -> Tensor:
    """Return what `reference.attention` returns, by tiles; the bias may also be a function of a tile."""
    plan = plan_tiles(offsets, max_len=max_len, tokens=len(q), heads=q.shape[1], num_targets=num_targets, window=window)
    if bias is None:
        of_tile: BiasOf = lambda tile: None  # noqa: E731
    else:
        of_tile = bias if callable(bias) else lambda tile: bias[tile.sequences[:, None, None], tile.rows, tile.keys]
    return attend_tiled(q, k, v, plan, alpha, activation_named(activation)(plan, q.dtype), of_tile)


@dataclass(frozen=True)
class Golden:
    """One golden file: its configuration, and its arrays as tensors."""

    config: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def get(self, name: str) -> Tensor | None:
        return self[name] if name in self.arrays else None

    def leaf(self, name: str) -> Tensor:
        return self[name].clone().requires_grad_()


def golden(name: str) -> Golden:
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    return Golden(json.loads(str(arrays.pop("config"))), arrays)


@dataclass(frozen=True)
class Case:
    """A random batch and the options of its attention."""

    lengths: list[int]
    targets: list[int]
    heads: int
    d_qk: int
    d_v: int
    options: dict[str, Any]
    biased: bool
    seed: int
    rows: int  # of a tile
    area: int  # of a tile

    @property
    def offsets(self) -> Tensor:
        return offsets_of(self.lengths)

    def inputs(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Return q, k, v and, if the case has one, the bias: leaves that require gradients."""
        rng = torch.Generator().manual_seed(self.seed)
        tokens, longest = sum(self.lengths), max(self.lengths, default=0)
        shapes = [(tokens, self.heads, d) for d in (self.d_qk, self.d_qk, self.d_v)]
        shapes += [(len(self.lengths), longest, longest)] * self.biased
        return [torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]

    def run(self, function: Any, inputs: list[Tensor]) -> Tensor:
        """Call an attention on the case, with tiles of the case's size."""
        q, k, v, *bias = inputs
        with patch.object(tile_plan, "ROWS", self.rows), patch.dict(tile_plan.AREA, cpu=self.area):
            return function(q, k, v, self.offsets, **self.options, bias=bias[0] if bias else None)


def offsets_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int64)


def close(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> bool:
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(ours, theirs, strict=True))


@st.composite
def cases(draw: st.DrawFn, longest: int = 14) -> Case:
    lengths = draw(st.lists(st.integers(0, longest), max_size=6))
    targets = [draw(st.integers(0, n)) for n in lengths]
    options = {
        "activation": draw(st.sampled_from(sorted(ACTIVATIONS))),
        "alpha": draw(st.sampled_from([1.0, 0.3])),
        "max_len": longest + 2,
        "num_targets": torch.tensor(targets, dtype=torch.int64) if draw(st.booleans()) else None,
        "window": draw(st.sampled_from([0, 0, 1, 3, longest])),
    }
    sizes = [draw(st.integers(1, limit)) for limit in (3, 4, 4)]
    rows, area = draw(st.sampled_from([1, 3, 128])), draw(st.sampled_from([1, 40, 1 << 16]))
    return Case(lengths, targets, *sizes, options, draw(st.booleans()), draw(st.integers(0, 99)), rows, area)
