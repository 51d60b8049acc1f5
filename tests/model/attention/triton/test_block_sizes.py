"""Block sizes: what fits, and which choice is fixed. No kernel runs."""

import itertools
from typing import Any

import pytest
import torch

from model.attention.triton import block_sizes
from model.attention.triton.block_sizes import Config, configs, fixed, shares_of

KERNELS = ("attention", "query_gradients", "key_gradients")
SHARED = 227 << 10  # bytes that a program of an H100 may take


@pytest.fixture(params=[False, True], ids=["device", "interpreted"])
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether Triton interprets its kernels."""
    monkeypatch.setattr(block_sizes, "interpreted", lambda: request.param)
    return bool(request.param)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(block_sizes, "interpreted", lambda: False)


def arguments(width: int, dtype: torch.dtype) -> dict[str, Any]:
    return {"P_QK": width, "P_V": width, "Q": torch.empty(0, dtype=dtype)}


def operands(kernel: str, config: Config, width: int, dtype: torch.dtype) -> int:
    """Return the bytes of a tile by hand: two operands of the own rows, and two streamed; float32 in two parts."""
    size = {torch.bfloat16: 2, torch.float32: 8}[dtype]
    if kernel == "key_gradients":  # gradients of both operands are summed beside them
        return size * 2 * width * (2 * config.n + config.stages * config.m)
    return size * 2 * width * (config.m + config.stages * config.n)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("width", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("kernel", KERNELS)
def test_whatever_autotuning_tries_fits(kernel: str, width: int, dtype: torch.dtype) -> None:
    """Into an H100's shared memory; the fixed choice comes first and none comes twice."""
    first, *others = choices = configs(kernel, arguments(width, dtype))
    assert first == fixed(kernel, arguments(width, dtype))
    assert len(set(choices)) == len(choices)
    assert all(operands(kernel, choice, width, dtype) <= SHARED for choice in others)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("kernel", KERNELS)
def test_wide_rows_have_smaller_tiles(kernel: str) -> None:
    """The fixed tile shrinks as rows grow, and is small for a width at which nothing fits."""
    sizes = []
    for width in (16, 32, 64, 128, 256, 2048):
        choice = fixed(kernel, arguments(width, torch.float32))
        sizes.append(choice.m * choice.n)
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[-1], sizes[0] > sizes[-1]) == (32 * 32, True)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("kernel", KERNELS)
def test_own_rows_are_enough_for_the_warps(kernel: str) -> None:
    """Four warps multiply 64 rows at once; with more warps than rows for them, two groups compute the same tile."""
    for dtype, width in itertools.product((torch.bfloat16, torch.float32), (16, 64, 256)):
        for choice in configs(kernel, arguments(width, dtype)):
            own = choice.n if kernel == "key_gradients" else choice.m
            assert choice.warps <= max(4, own // 16), choice


def test_a_kernel_gets_block_sizes_by_the_names_of_its_arguments(on: bool) -> None:
    """Interpreted, all kernels have small blocks; the kernels of a bias have one choice, as their buffers have."""
    narrow = arguments(32, torch.bfloat16)
    assert set(fixed("attention", narrow).blocks) == {"BLOCK_M", "BLOCK_N"}
    for kernel in ("pair_bias", "pair_slopes", "place_sums"):
        (choice,) = configs(kernel, narrow)
        assert (choice == Config(16, 16, 4, 1)) == on


@pytest.mark.usefixtures("device")
def test_slopes_of_wide_rows_have_fewer_stages_then_smaller_blocks() -> None:
    """All operands are streamed; float32 counts twice."""
    choices = [fixed("pair_slopes", arguments(width, torch.bfloat16)) for width in (64, 128, 256, 512)]
    assert [(choice.m, choice.stages) for choice in choices] == [(64, 3), (64, 2), (64, 1), (32, 1)]
    assert fixed("pair_slopes", arguments(64, torch.float32)) == choices[2]


def test_few_blocks_are_shared_by_many_programs(on: bool) -> None:
    """So that all multiprocessors have work; many blocks have one program each, never none."""
    most = 4 if on else 1024
    assert [shares_of(blocks) for blocks in (1, 2, most, most + 1, 10**6)] == [most, most // 2, 1, 1, 1]
