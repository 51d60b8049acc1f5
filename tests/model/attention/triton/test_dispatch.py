"""Which path the encoder takes, and the kernels' own tests interpreted on the CPU."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.attention.triton import dispatch, self_check
from model.attention.triton.batch import FusedBatch
from model.config import ModelSettings
from model.errors import ModelError
from model.network.encoders.hstu import Encoder
from tests.model.attention.attention_cases import offsets_of, tiled_attention

ROOT = Path(__file__).parents[4]
HERE = Path(__file__).parent
CPU = torch.device("cpu")
QUIETLY: Any = {"capture_output": True, "text": True}
HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@needs_triton
@pytest.mark.parametrize("marks", ["gpu and not slow", pytest.param("gpu and slow", marks=pytest.mark.slow)])
def test_the_kernels_pass_their_tests_interpreted(marks: str) -> None:
    """All tests marked gpu, in a process in which Triton interprets its kernels."""
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-m", marks, str(HERE)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, **QUIETLY)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


@needs_triton
def test_the_kernels_compile_for_an_h100() -> None:
    """On any machine: all kernels, with the bias of the paper, fit into its shared memory."""
    command = [sys.executable, "tests/model/attention/triton/ahead.py", "bfloat16", "64", "silu", "bucketed"]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(command, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, check=False, **QUIETLY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wgmma") == 8, done.stdout  # four kernels, without a window and with one


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that have not been checked yet, on a device that could have some."""
    monkeypatch.setattr(dispatch, "_verdicts", {})
    monkeypatch.setattr(dispatch, "kernels_exist", lambda *_, **__: True)
    monkeypatch.setattr(self_check, "SHAPES", self_check.SHAPES[1:])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
    return x, offsets_of([5, 0, 4]), torch.arange(9) * 60_000


def encoder() -> Encoder:
    settings = ModelSettings(dim=16, heads=2, layers=1, max_len=16)
    return Encoder(settings, dtype=torch.float32, generator=torch.Generator().manual_seed(0))


def nearly(q: Tensor, k: Tensor, v: Tensor, batch: FusedBatch, alpha: float, activation: str, bias: object) -> Tensor:
    """A kernel that scales by 1 % too much and knows no bias."""
    options = {"max_len": batch.max_len, "num_targets": batch.targets, "window": batch.window}
    return tiled_attention(q, k, v, batch.offsets, alpha=alpha * 1.01, activation=activation, **options)  # type: ignore[arg-type]


def raising(*_: object) -> Tensor:
    """A kernel that does not compile."""
    raise RuntimeError("PTXAS error\nmany lines")


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("kernel", "reason"), [(nearly, r"the output is off by .* \(lengths"), (raising, r"PTXAS error;")]
)
def test_wrong_kernels_are_said_once_and_plain_pytorch_goes_on(
    monkeypatch: pytest.MonkeyPatch, kernel: object, reason: str
) -> None:
    """The first batch warns, the next one is silent; the output is that of the plain path."""
    monkeypatch.setattr(self_check, "attend_fused", kernel)
    model, inputs = encoder(), batch()
    with pytest.warns(RuntimeWarning, match=f"failed their check on cpu .*{reason}.*goes on in plain PyTorch"):
        first = model(*inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(model(*inputs), first)
    monkeypatch.setattr(dispatch, "kernels_exist", lambda *_, **__: False)
    assert torch.equal(model(*inputs), first)


@pytest.mark.usefixtures("fresh")
def test_kernels_that_break_the_device_end_the_process_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an illegal access plain PyTorch cannot go on either: the sentence says how to turn the kernels off."""
    monkeypatch.setattr(torch.cuda, "synchronize", raising)
    x: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    with pytest.raises(ModelError, match=r"broke cuda .*: PTXAS error; start again with FUSED_ATTENTION=0"):
        dispatch.use_fused(x, width=8, heads=2, activation="silu", bias="none", check=raising)


@pytest.mark.usefixtures("fresh")
def test_the_environment_turns_the_kernels_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not even checked."""
    monkeypatch.setenv("FUSED_ATTENTION", "0")
    assert not dispatch.use_fused(torch.ones(1), width=8, heads=2, activation="silu", bias="none", check=raising)


@pytest.mark.usefixtures("fresh")
def test_right_kernels_serve_and_are_checked_once() -> None:
    """One check per device, dtype, width, activation and bias."""
    seen = []
    for bias in ("bucketed", "bucketed", "none"):
        assert dispatch.use_fused(torch.ones(1), width=8, heads=2, activation="silu", bias=bias, check=seen.append)
    assert [case.bias for case in seen] == ["bucketed", "none"]
