import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.attention.activations import ACTIVATIONS
from model.attention.cpu import bias as cpu_bias, dispatch, row_ops
from model.attention.cpu.dispatch import use_compiled
from model.attention.relative_bias import BIASES
from model.config import ModelSettings
from model.network.encoders.hstu import Encoder
from tests.model.attention.attention_cases import offsets_of
from tests.model.attention.cpu.cpu_cases import VARIANTS, far_apart

ROOT = Path(__file__).parents[4]


def test_an_encoder_imports_numba_only_for_the_loops_and_no_triton() -> None:
    """Where a GPU trains, numba need not be installed; on a CPU, Triton need not, nor is what imports it loaded."""
    code = """
import sys, torch
from model.config import ModelSettings
from model.network.encoders.hstu import Encoder
encoder = Encoder(ModelSettings(), dtype=torch.float64, generator=torch.Generator())
encoder(torch.ones(3, 64).double(), torch.tensor([0, 3]), torch.arange(3))
assert "numba" not in sys.modules
encoder.float()(torch.ones(3, 64), torch.tensor([0, 3]), torch.arange(3)).sum().backward()
assert "numba" in sys.modules
late = {f"model.attention.triton.{name}" for name in ("launch", "gate", "forward", "backward", "tile_ops")}
assert not (late | {"triton"}) & sys.modules.keys()
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_the_encoder_uses_the_loops_in_float32_and_agrees_with_the_plain_path(activation: str, bias: str) -> None:
    """A whole encoder in float32 is within 1e-4 of itself in float64, which takes the plain path."""
    chosen = ModelSettings(attention=activation, bias=bias, dim=32, max_len=48)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    encoder = Encoder(chosen, dtype=torch.float32, generator=generator)
    lengths = [48, 5, 0, 31, 16]
    x, ts_ms = torch.randn(100, 32, generator=generator), torch.arange(100) * 77_777
    single = encoder(x, offsets_of(lengths), ts_ms)
    assert "Encode" in name_of_path(single)
    double = encoder.double()(x.double(), offsets_of(lengths), ts_ms)
    assert "Encode" not in name_of_path(double)
    assert far_apart([single.detach()], [double.detach()]) < 1e-4


def name_of_path(y: Tensor) -> str:
    """Return the names of the operations that made an output."""
    names, waiting = "", [y.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and len(names) < 2000:
            names += node.name()
            waiting += [parent for parent, _ in node.next_functions]
    return names


def test_candidates_other_dtypes_and_other_names_take_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops serve float32 on the CPU without candidates, with a token at least, and only if they are compiled."""
    x = torch.zeros(3, 4)

    def loops_serve(x: Tensor, targets: Tensor | None, activation: str = "silu", bias: str = "none") -> bool:
        return use_compiled(x, targets, activation=activation, bias=bias)

    assert loops_serve(x, None)
    assert not loops_serve(x, torch.tensor([1]))
    assert not loops_serve(x.double(), None)
    assert not loops_serve(x[:0], None)
    assert not loops_serve(x, None, activation="relu")
    assert not loops_serve(x, None, bias="by weekday")
    with torch.autocast("cpu"):
        assert not loops_serve(x, None)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert not loops_serve(x, None)


def test_the_loops_have_code_for_every_name_that_they_serve() -> None:
    """The names are activations and biases that exist, and their places are the codes that the loops are given."""
    assert set(dispatch.ACTIVATIONS) <= set(ACTIVATIONS)
    assert set(dispatch.BIASES) <= {"none", *BIASES}
    assert dispatch.ACTIVATIONS[row_ops.SILU_SEEN] == "silu_seen"
    assert dispatch.ACTIVATIONS[row_ops.SOFTMAX] == "softmax"
    assert dispatch.BIASES[cpu_bias.FUNCTIONAL] == "functional"
