import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

from model.attention.cpu import encode
from model.errors import ModelError
from tests.model.attention.attention_cases import offsets_of
from tests.model.attention.cpu.cpu_cases import EPS, VARIANTS, Case, cases, far_apart, prepared
from tests.strategies import tries

ROOT = Path(__file__).parents[4]


@given(cases())
@settings(max_examples=tries(150), deadline=None)
def test_outputs_and_gradients_are_those_of_loops_in_float64(case: Case) -> None:
    """Any lengths, widths, activation, bias, layers and number of threads: to the accuracy of float32."""
    assert far_apart(case.fast(), case.slow()) < 2e-4


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_ordinary_layers_agree_to_1e_5(activation: str, bias: str) -> None:
    """Heads of 16 and sequences of several blocks: the distance is the rounding of float32."""
    case = Case([100, 0, 7, 64, 33, 1], 32, 2, 16, 16, 0.25, activation, bias, 2, 5)
    assert far_apart(case.fast(), case.slow(), least=1e-3) < 2e-5


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_without_gradients_the_output_is_the_same_to_the_bit(activation: str, bias: str) -> None:
    """A server computes the same as a trainer, and saves nothing for a backward."""
    case = Case([40, 3, 64, 20], 16, 2, 8, 8, 1.0, activation, bias, 2, 1, 3)
    (out,) = case.fast(grad=False)
    assert torch.equal(out, case.fast()[0])
    assert out.grad_fn is None


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
@pytest.mark.parametrize("threads", [1, 2])
def test_equal_batches_give_equal_bits(activation: str, bias: str, threads: int) -> None:
    """Runs with the same number of threads agree to the bit, in parallel as well, outputs and gradients."""
    case = Case([40, 3, 64, 20, 20, 1, 0, 50], 16, 2, 8, 8, 1.0, activation, bias, threads, 1)
    first = case.fast()
    with ThreadPoolExecutor(3) as pool:
        others = [run.result() for run in [pool.submit(case.fast) for _ in range(6)]]
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


SMALL = Case([20, 3], 8, 2, 8, 8, 1.0, "silu", "bucketed", 1, 4)


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_a_nan_reaches_output_and_gradients(activation: str, bias: str) -> None:
    """If x or any parameter has one, output and gradients have one too, so that divergence is noticed."""
    case = replace(SMALL, activation=activation, bias=bias)
    for number in range(1 + len(list(prepared(case)[1].parameters()))):
        x, layer, run = prepared(case)
        with torch.no_grad():
            [x, *layer.parameters()][number].view(-1)[:] = torch.nan
        out = run()
        out.square().sum().backward()
        assert out.isnan().any(), number
        assert layer.w_uvqk.grad is not None
        assert layer.w_uvqk.grad.isnan().any(), number


def test_gradients_of_a_part_are_those_of_the_whole() -> None:
    """With inputs that require no gradient, and with frozen weights."""
    x, layer, run = prepared(SMALL)
    whole = torch.autograd.grad(run().square().sum(), [x, layer.w_uvqk, layer.w_out])
    x.requires_grad_(False)
    weights = torch.autograd.grad(run().square().sum(), [layer.w_uvqk, layer.w_out])
    layer.requires_grad_(False)
    x.requires_grad_()
    inputs = torch.autograd.grad(run().square().sum(), [x])
    assert all(torch.equal(a, b) for a, b in zip(whole, [*inputs, *weights], strict=True))


def test_a_graph_can_be_used_once_unless_it_is_retained() -> None:
    """As with PyTorch's operations; an input changed in place before the backward is an error too."""
    x, _, run = prepared(SMALL)
    loss = run().square().sum()
    first, second = (torch.autograd.grad(loss, [x], retain_graph=retained)[0] for retained in (True, False))
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, [x])
    loss = run().sum()
    x.data = x.data  # keeps the version
    with torch.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_does_not_fit_is_refused() -> None:
    """Compiled loops check no bounds, so widths, dtypes and lengths are checked before."""
    x, layer, run = prepared(SMALL)
    layer.w_out = torch.nn.Parameter(torch.zeros(8, 15))
    with pytest.raises(ModelError, match=r"w_out of an encoder's layer is torch\.float32 \[8, 15\]; .*\[8, 16\]"):
        run()
    layer.double()
    with pytest.raises(ModelError, match=r"w_uvqk of an encoder's layer is torch\.float64"):
        run()
    batch = encode.compiled_batch(SMALL.offsets, max_len=21, tokens=23, activation="silu")
    with pytest.raises(ModelError, match=r"Times are whole ms, not torch\.float32 and torch\.int64"):
        encode.with_times(batch, torch.ones(23), torch.arange(23), "bucketed")
    with pytest.raises(ModelError, match="1 layers of an encoder were given with 0 biases"):
        encode.encode(x, batch, encode.Heads(2, 8, 8, 1.0, EPS), [layer], [])
    with pytest.raises(ModelError, match="5 times and 23 to look from were given for 23 tokens"):
        encode.with_times(batch, torch.arange(5), torch.arange(23), "bucketed")
    with pytest.raises(ModelError, match=r"x of an encoder's layer is .*\[22, 8\]"):
        encode.encode(x[:22], batch, encode.Heads(2, 8, 8, 1.0, EPS), [layer], [None])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    """It does not wait for its parent's, which do not exist in it."""
    code = """
import os, signal, torch
from model.config import ModelSettings
from model.network.encoders.hstu import Encoder
torch.set_num_threads(2)
encoder = Encoder(ModelSettings(), dtype=torch.float32, generator=torch.Generator().manual_seed(0))
def run():
    return encoder(torch.ones(30, 64), torch.tensor([0, 20, 30]), torch.arange(30))
before = run()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if torch.equal(run(), before) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_sequence_that_is_too_long_is_refused_as_everywhere() -> None:
    """The sentence is that of the plain path."""
    with pytest.raises(ModelError, match=r"Sequence 0 has 9 tokens .*more than max_len 8"):
        encode.compiled_batch(offsets_of([9]), max_len=8, tokens=9, activation="silu")
