"""The check before first use: on a GPU, or interpreted on the CPU."""

from typing import Any

import pytest
import torch
from torch import Tensor

from model.attention.triton import self_check
from model.attention.triton.api import norm_gate, silu_parts
from model.attention.triton.batch import interpreted
from model.attention.triton.self_check import Case, Shape, check
from model.errors import ModelError
from tests.model.attention.triton.triton_cases import DEVICE, ROOM, _living_device, assert_as_good, pytestmark, rng  # noqa: F401

SMALL = [Shape((20, 0, 1, 5), (2, 0, 0, 5), 0)]
WIDTHS = [24] if interpreted() else [32, 64, 128]
CASES = [("silu", "bucketed", "float32"), ("silu", "bucketed", "bfloat16"), ("softmax", "functional", "float32")]
CASES = [pytest.param(*case, marks=pytest.mark.slow) if interpreted() else case for case in CASES]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("activation", "bias", "dtype"), [*CASES, ("softmax", "functional", "bfloat16")])
def test_the_check_passes_at_the_widths_that_are_trained(
    monkeypatch: pytest.MonkeyPatch, activation: str, bias: str, dtype: str, width: int
) -> None:
    """Each width has its own block sizes; the whole check on a device, a small batch if interpreted."""
    if interpreted():
        monkeypatch.setattr(self_check, "SHAPES", SMALL)
    check(Case(DEVICE, getattr(torch, dtype), width, width, activation, bias, 2))


def test_the_check_passes_on_the_right_kernels_and_names_what_a_wrong_one_gets_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kernels that compute another activation are refused: the sentence says where and by how much."""
    from model.attention.triton import launch as triton_launch
    from model.errors import ModelError

    monkeypatch.setattr(self_check, "SHAPES", SMALL)
    case = Case(DEVICE, torch.float32, 8, 8, "silu", "bucketed", 2)
    check(case)
    monkeypatch.setitem(triton_launch._ACTIVATIONS, "silu", 1)
    with pytest.raises(ModelError, match=r"the output is off by .* of its largest number, more than 1e-04"):
        check(case)


@pytest.mark.parametrize(("heads", "d_v"), [(1, 1), (2, 1), (1, 4096)])
def test_the_check_runs_rows_as_wide_as_a_layers(monkeypatch: pytest.MonkeyPatch, heads: int, d_v: int) -> None:
    """The narrowest, whose norm is zero or a sign, and wide ones."""
    from model.attention.triton import gate as triton_gate

    monkeypatch.setattr(self_check, "SHAPES", [])
    monkeypatch.setattr(self_check, "_ROWS", 5)
    seen, tile = set(), triton_gate.tile
    monkeypatch.setattr(triton_gate, "tile", lambda width: [seen.add(width), tile(width)][1])
    self_check.check(Case(DEVICE, torch.float32, d_v, d_v, "silu", "none", heads))
    assert seen == {heads * d_v}


@pytest.mark.parametrize("operation", ["norm_gate", "silu_parts"])
def test_the_check_names_what_a_wrong_operation_gets_wrong(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Another epsilon, and parts in another order, are refused: the sentence says where and by how much."""
    wrong: Any = (lambda u, o, eps: norm_gate(u, o, 2 * eps)) if operation == "norm_gate" else swapped
    monkeypatch.setattr(self_check, "SHAPES", [])
    monkeypatch.setattr(self_check, operation, wrong)
    with pytest.raises(ModelError, match=r"the (gated output|part q) is off by .* more than 1e-04 \(rows of 24\)"):
        self_check.check(Case(DEVICE, torch.float32, 8, 8, "silu", "none", 3))


def swapped(z: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
    """Return the parts with k and q exchanged."""
    u, v, q, k = silu_parts(z, widths)
    return u, v, k, q
