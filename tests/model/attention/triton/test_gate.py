"""The operations around the attention by their kernels: on a GPU, or interpreted on the CPU.

L rows, V numbers in a row of the gate; a test's widths are those of u, v, q, k."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, silu

from model.attention.activations import activation_named
from model.attention.tile_plan import plan_tiles
from model.attention.triton.api import norm_gate, silu_parts
from model.attention.triton.batch import fused_batch, interpreted
from model.attention.triton.self_check import Case, GateProblem
from model.network.encoders.hstu import Layer
from tests.model.attention.attention_cases import offsets_of
from tests.model.attention.triton.triton_cases import DEVICE, ROOM, _living_device, assert_as_good, pytestmark, rng  # noqa: F401

EPS = 1e-6
WIDTHS = [(1, "float32"), (5, "float32"), (48, "bfloat16"), (100, "float32"), (100, "bfloat16"), (100, "float16")]


def times(dtype: str) -> float:
    """Return how many times plain PyTorch's error is allowed: the interpreter rounds bfloat16 towards zero."""
    return 4 if dtype == "bfloat16" and interpreted() else 2


def plain_gate(u: Tensor, o: Tensor) -> Tensor:
    return u * layer_norm(o, o.shape[-1:], eps=EPS)


def fused_gate(u: Tensor, o: Tensor) -> Tensor:
    return norm_gate(u.to(DEVICE), o.to(DEVICE), EPS).cpu()


def fused_parts(z: Tensor, widths: list[int]) -> list[Tensor]:
    return [part.cpu() for part in silu_parts(z.to(DEVICE), widths)]


def plain_parts(z: Tensor, widths: list[int]) -> list[Tensor]:
    return [*silu(z).split_with_sizes(widths, -1)]


def gate_results(function: Any, a: Tensor, o: Tensor, d_y: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Return y and the gradients of a, whose first columns are u, and of o."""
    a, o = (x.to(dtype).requires_grad_() for x in (a, o))
    y = function(a[:, : o.shape[1]], o)
    return [y.detach(), *torch.autograd.grad(y, (a, o), d_y.to(dtype))]


@pytest.mark.parametrize("rows", [0, 1, 33, 140])
@pytest.mark.parametrize(("width", "dtype"), WIDTHS)
def test_the_gate_and_its_gradients_are_as_good_as_plain_pytorchs(width: int, dtype: str, rows: int) -> None:
    """For any width, with u a view of longer rows, rows of o far from zero and near epsilon, and no rows."""
    kind, generator = getattr(torch, dtype), rng(width)
    a, o, d_y = (torch.randn(rows, n, generator=generator).to(kind).double() for n in (2 * width + 3, width, width))
    o[::2], o[1::3] = o[::2] * 2**-10, o[1::3] + 2
    runs = [gate_results(gate, a, o, d_y, kind) for gate in (fused_gate, plain_gate)]
    assert [x.dtype for x in runs[0]] == [kind] * 3
    for ours, theirs, exact in zip(*runs, gate_results(plain_gate, a, o, d_y, torch.float64), strict=True):
        assert_as_good([ours], [theirs], [exact], times(dtype))


def part_results(function: Any, z: Tensor, widths: list[int], used: str, dtype: torch.dtype) -> list[Tensor]:
    """Return the parts and the gradient of z; only the parts named in `used` have a gradient."""
    z = z.to(dtype).requires_grad_()
    parts = function(z, widths)
    wanted = [part for name, part in zip("uvqk", parts, strict=True) if name in used]
    cotangents = [torch.randn(2 * len(x), 7 + x.shape[1], generator=rng(1)).to(dtype)[::2, 7:] for x in wanted]
    return [*(part.detach() for part in parts), *torch.autograd.grad(wanted, z, cotangents)]


@pytest.mark.parametrize("rows", [0, 1, 33])
@pytest.mark.parametrize(
    ("widths", "used", "dtype"),
    [
        ([1, 1, 1, 1], "uvqk", "float32"),
        ([5, 5, 5, 5], "uvqk", "bfloat16"),
        ([48, 48, 100, 100], "uvqk", "float32"),
        ([48, 48, 100, 100], "vk", "float32"),
        ([100, 5, 48, 1], "q", "float16"),
    ],
)
def test_parts_and_the_gradient_of_their_whole_are_as_good_as_plain_pytorchs(
    widths: list[int], used: str, dtype: str, rows: int
) -> None:
    """For any widths, gradients that are views, and unused parts, which add nothing."""
    kind = getattr(torch, dtype)
    z = (3 * torch.randn(rows, sum(widths), generator=rng(0))).to(kind).double()
    runs = [part_results(parts, z, widths, used, kind) for parts in (fused_parts, plain_parts)]
    exact = part_results(plain_parts, z, widths, used, torch.float64)
    assert_as_good(*runs, exact, times(dtype))


def test_gradients_of_any_strides_are_read_right() -> None:
    """A sum's gradient is one number with stride 0; in a transposed gradient a row's numbers are far apart."""
    z, cotangent = torch.randn(9, 20, generator=rng(0)), torch.randn(5, 9, generator=rng(1)).T
    found = []
    for parts, gate in ((fused_parts, fused_gate), (plain_parts, plain_gate)):
        leaf = z.clone().requires_grad_()
        u, v, q, k = parts(leaf, [5, 5, 5, 5])
        out = (gate(u, v) * 1).sum() + (q.T @ k).sum() + (k * cotangent).sum()
        found.append(torch.autograd.grad(out, leaf)[0])
    assert torch.allclose(*found, rtol=1e-5, atol=1e-6)


def layer_results(fused: bool, dtype: torch.dtype, precision: AbstractContextManager[object]) -> list[Tensor]:
    """Return a layer's output and gradients; the layer is float32 or float64."""
    layer = Layer(12, heads=3, d_qk=5, d_v=4, alpha=0.5, bias=None, dtype=torch.float32, generator=rng(0)).to(dtype)
    offsets, shape = offsets_of([9, 0, 1, 17]), {"max_len": 17, "tokens": 27}
    x, cotangent = (torch.randn(27, 12, generator=rng(seed)).to(DEVICE, dtype) for seed in (1, 2))
    x.requires_grad_()
    layer.to(DEVICE)
    with precision:
        if fused:
            out = layer.fused(x, fused_batch(offsets.to(DEVICE), **shape), "silu")
        else:
            plan = plan_tiles(offsets.to(DEVICE), heads=3, **shape)
            out = layer(x, plan, activation_named("silu")(plan, x.dtype), None)
    assert out.dtype == dtype
    return [y.detach().cpu() for y in (out, *torch.autograd.grad(out, [x, *layer.parameters()], cotangent))]


@pytest.mark.parametrize("bf16", [False, True])
def test_a_fused_layer_is_as_good_as_the_plain_one(bf16: bool) -> None:
    """Output and all gradients, in float32 and with autocast to bf16, where the output stays float32."""
    precision = torch.autocast(DEVICE.type, torch.bfloat16) if bf16 else nullcontext()
    runs = [layer_results(fused, torch.float32, precision) for fused in (True, False)]
    exact = layer_results(False, torch.float64, nullcontext())
    assert_as_good(*runs, exact, times("bfloat16" if bf16 else "float32"))


def test_no_rows_launch_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward of an empty batch use no kernel."""
    for kernel in ("gate", "gate_gradients", "silu_gradients"):
        monkeypatch.setattr(f"model.attention.triton.gate.{kernel}", None)
    none = torch.empty(0, 12)
    assert all(x.shape[0] == 0 for x in gate_results(fused_gate, none, none, none, torch.float32))
    assert all(x.shape[0] == 0 for x in part_results(fused_parts, none, [3] * 4, "uvqk", torch.float32))


def test_kernels_are_given_their_arguments_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's compiler refuses an extra argument, which its interpreter accepts."""
    from model.attention.triton import gate as triton_gate

    launch, seen = triton_gate._launch, []

    def checked(kernel: Any, x: Tensor, width: int, arguments: dict[str, Any]) -> None:
        options = {"tokens", *triton_gate.tile(width)} - {"num_warps", "enable_fp_fusion"}
        assert sorted({*arguments, *options}) == sorted(inspect.signature(kernel.fn).parameters)
        seen.append(kernel.__name__)
        launch(kernel, x, width, arguments)

    monkeypatch.setattr(triton_gate, "_launch", checked)
    GateProblem(Case(DEVICE, torch.float32, 4, 8, "silu", "none", 2)).fused()
    assert sorted(seen) == ["gate", "gate_gradients", "silu_gradients"]


@pytest.mark.parametrize("width", [1, 3, 512, 1025, 4096, 40_000])
def test_a_program_has_whole_rows_of_any_width(width: int) -> None:
    """Padded to a power of two; a thread has 16 numbers of a tensor until there are 16 warps."""
    from model.attention.triton.gate import tile as tile_of

    tile = tile_of(width)
    assert tile["P"] >= width
    assert tile["P"] & (tile["P"] - 1) == 0
    assert tile["P"] * tile["ROWS"] == max(2048, tile["P"])
    assert 4 <= tile["num_warps"] <= 16


def test_equal_rows_give_equal_bits() -> None:
    """Two runs agree to the bit, gradients included, and so do equal rows at any place."""
    around = GateProblem(Case(DEVICE, torch.float32, 24, 24, "silu", "none", 2))
    first, second = around.fused(), around.fused()
    assert all(torch.equal(first[name], second[name]) for name in first)
    u, o = (torch.randn(1, 48, generator=rng(seed)).expand(70, -1) for seed in (0, 1))
    y = fused_gate(u, o)
    assert torch.equal(y, y[:1].expand(70, -1))
