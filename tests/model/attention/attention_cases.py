"""Jagged batches for the tests of attention and of what stands on it: golden files and random cases."""

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

from model.attention import ACTIVATIONS, tile_plan

GOLDEN = Path(__file__).parents[2] / "golden"


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
    """A random batch and how it is to be attended to."""

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
        """Give q, k, v and, if the case has one, the bias: leaves that want gradients."""
        rng = torch.Generator().manual_seed(self.seed)
        tokens, longest = sum(self.lengths), max(self.lengths, default=0)
        shapes = [(tokens, self.heads, d) for d in (self.d_qk, self.d_qk, self.d_v)]
        shapes += [(len(self.lengths), longest, longest)] * self.biased
        return [torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]

    def run(self, function: Any, inputs: list[Tensor]) -> Tensor:
        """Call an attention on the case, its tiles as small as the case wants them."""
        q, k, v, *bias = inputs
        with patch.object(tile_plan, "ROWS", self.rows), patch.dict(tile_plan.AREA, cpu=self.area):
            return function(q, k, v, self.offsets, **self.options, bias=bias[0] if bias else None)


def offsets_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int64)


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
