import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from model.arrays.jit import ANY_ORDER
from model.attention import ACTIVATIONS
from model.attention.bias_terms import bias_terms
from model.attention.cpu import encode, layers, matmul, row_ops, sequence
from model.attention.relative_bias import log_gaps, time_buckets
from model.config import ModelSettings
from model.errors import ModelError
from model.network.encoders.hstu import Encoder, loops_serve
from tests.model.attention.attention_cases import golden, offsets_of
from tests.model.attention.cpu.cpu_cases import EPS, VARIANTS, Case, cases, far_apart, prepared
from tests.model.network.encoders.test_hstu import golden_layer, golden_times

ROOT = Path(__file__).parents[4]


@given(cases())
@settings(max_examples=150, deadline=None)
def test_outputs_and_gradients_are_those_of_loops_in_float64(case: Case) -> None:
    """Any lengths, widths, activation, bias, layers and number of threads: to the accuracy of float32."""
    assert far_apart(case.fast(), case.slow()) < 2e-4


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_ordinary_layers_agree_to_1e_5(activation: str, bias: str) -> None:
    """Heads of 16 and sequences of several blocks: the distance of float32, not of another formula."""
    case = Case([100, 0, 7, 64, 33, 1], 32, 2, 16, 16, 0.25, activation, bias, 2, 5)
    assert far_apart(case.fast(), case.slow(), least=1e-3) < 2e-5


@pytest.mark.parametrize("lengths", [[400, 3], [1] * 300, [0, 0, 1]])
def test_groups_of_sequences_of_any_size(lengths: list[int]) -> None:
    """One sequence longer than a group, hundreds that share one, and next to nothing."""
    case = Case(lengths, 8, 1, 8, 8, 1.0, "silu_seen", "bucketed", 1, 3)
    assert far_apart(case.fast(), case.slow()) < 5e-5


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_without_gradients_the_output_is_the_same_to_the_bit(activation: str, bias: str) -> None:
    """What a server computes is what a trainer computes; nothing is kept for a backward there."""
    case = Case([40, 3, 64, 20], 16, 2, 8, 8, 1.0, activation, bias, 2, 1, 3)
    (out,) = case.fast(grad=False)
    assert torch.equal(out, case.fast()[0])
    assert out.grad_fn is None


@pytest.mark.parametrize("name", ["research_rel_bias", "research_rel_bias_no_ts"])
def test_a_layer_is_that_of_the_public_reference(name: str) -> None:
    """Output and the gradient of every weight, bias included, to 1e-5 in float32."""
    file = golden(name)
    layer, x = golden_layer(file).float(), file["x"].float().requires_grad_()
    batch = encode.batch_of(file["x_offsets"], max_len=file.config["N"], tokens=len(x), activation="silu")
    if layer.bias is not None:
        batch = encode.with_times(batch, *golden_times(file), "bucketed")
    d_v, d_qk = (width // layer.heads for width in layer.widths[1:3])
    heads = encode.Heads(layer.heads, d_qk, d_v, layer.alpha, EPS)
    out = encode.encode(x, batch, heads, [layer], [bias_terms(layer.bias)])
    (out * file["cot"].float()).sum().backward()
    found = {"out": out, "grad_x": x.grad, "grad_w_uvqk": layer.w_uvqk.grad, "grad_w_o": layer.w_out.grad}
    if layer.bias is not None:
        found |= {"grad_rab_pos_w": layer.bias.positions.grad, "grad_rab_ts_w": layer.bias.times.grad}
    for key, value in found.items():
        assert value is not None
        assert far_apart([value.detach()], [file[key]]) < 1e-5, key


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=40), st.integers(1, 2))
@settings(deadline=None)
def test_time_buckets_are_the_plain_ones_to_the_bit(gaps_ms: list[int], unit: int) -> None:
    """Whatever the gaps, and where buckets meet: no pair falls into a neighbour."""
    edges = [int(np.exp(0.301 * bucket) * 1000) + step for bucket in (1, 17, 40, 60) for step in (-1, 0, 1)]
    ts_ms = torch.tensor([*edges, *gaps_ms]).cumsum(0) * unit
    offsets, asked_ms = offsets_of([len(ts_ms)]), ts_ms.flip(0).contiguous()
    batch = encode.batch_of(offsets, max_len=60, tokens=len(ts_ms), activation="silu")
    buckets = encode.with_times(batch, ts_ms, asked_ms, "bucketed").shares[0].buckets
    wanted = time_buckets(asked_ms[:, None].double() / 1000, ts_ms.double() / 1000)
    assert buckets.tolist() == wanted[torch.ones_like(wanted).tril().bool()].tolist()
    logs = encode.with_times(batch, ts_ms, asked_ms, "functional").shares[0].log_gaps[0]
    wanted = log_gaps(asked_ms[:, None].double() / 1000, ts_ms.double() / 1000)
    assert np.allclose(logs, wanted[torch.ones_like(wanted).tril().bool()].numpy(), atol=1e-5)


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
@pytest.mark.parametrize("threads", [1, 2])
def test_equal_batches_give_equal_bits(activation: str, bias: str, threads: int) -> None:
    """Runs with one number of threads agree to the bit, side by side as well, outputs and gradients."""
    case = Case([40, 3, 64, 20, 20, 1, 0, 50], 16, 2, 8, 8, 1.0, activation, bias, threads, 1)
    first = case.fast()
    with ThreadPoolExecutor(3) as pool:
        others = [run.result() for run in [pool.submit(case.fast) for _ in range(6)]]
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_huge_scores_give_finite_numbers(activation: str) -> None:
    """Scores of some 1e6 saturate: nothing overflows in the exponential, forward or backward."""
    case = Case([30, 20], 8, 1, 8, 8, 1e6, activation, "none", 1, 2)
    assert all(torch.isfinite(x).all() for x in case.fast())


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 40), st.booleans())
@settings(deadline=None)
def test_products_by_tiles(rows: int, columns: int, k: int, transposed: bool) -> None:
    """Of any shape, also of no terms and with a transposed first factor; what was there is replaced or added to."""
    rng = np.random.default_rng(0)
    wide = max(rows, k)
    a, b, before = (row_ops.buffer(n, m) for n, m in ((wide, wide), (k, columns), (rows, columns)))
    for array in (a, b, before):
        array[:] = rng.standard_normal(array.shape)
    left = a.T if transposed else a
    exact = left[:rows, :k].astype(np.float64) @ b[:k, :columns]
    for product, start in ((row_ops.product, 0.0), (row_ops.add_product, before[:rows, :columns])):
        out = before.copy()
        product(out, left, b, rows, columns, k)
        assert np.allclose(out[:rows, :columns], exact + start, atol=1e-5)


def test_a_tile_is_transposed_where_it_stands() -> None:
    """Neither what it is taken from nor what lies around the place it goes to changes."""
    a, out = np.arange(40 * 50, dtype=np.float32).reshape(40, 50), np.zeros((40, 40), np.float32)

    @row_ops.compiled
    def run(out: Any, a: Any) -> None:
        matmul.transpose_tile(out, a, 5, 7, 3, 9)

    run(out, a)
    wanted = np.zeros_like(out)
    wanted[5:21, 7:23] = a[3:19, 9:25].T
    assert np.array_equal(out, wanted)


SMALL = Case([20, 3], 8, 2, 8, 8, 1.0, "silu", "bucketed", 1, 4)


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_a_nan_is_never_swallowed(activation: str, bias: str) -> None:
    """Whichever of x and a layer's parameters has one, output and gradients show that training has diverged."""
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
    """Of weights over inputs that are no one's, and of inputs through frozen weights."""
    x, layer, run = prepared(SMALL)
    whole = torch.autograd.grad(run().square().sum(), [x, layer.w_uvqk, layer.w_out])
    x.requires_grad_(False)
    weights = torch.autograd.grad(run().square().sum(), [layer.w_uvqk, layer.w_out])
    layer.requires_grad_(False)
    x.requires_grad_()
    inputs = torch.autograd.grad(run().square().sum(), [x])
    assert all(torch.equal(a, b) for a, b in zip(whole, [*inputs, *weights], strict=True))


def test_a_graph_serves_once_unless_it_is_retained() -> None:
    """As PyTorch's own operations do; an input changed in place before the backward is an error too."""
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
    """Compiled loops would read whatever lies there: widths, dtypes and lengths are looked at first."""
    x, layer, run = prepared(SMALL)
    layer.w_out = torch.nn.Parameter(torch.zeros(8, 15))
    with pytest.raises(ModelError, match=r"w_out of an encoder's layer is torch\.float32 \[8, 15\]; .*\[8, 16\]"):
        run()
    layer.double()
    with pytest.raises(ModelError, match=r"w_uvqk of an encoder's layer is torch\.float64"):
        run()
    batch = encode.batch_of(SMALL.offsets, max_len=21, tokens=23, activation="silu")
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
    """Its parent's are not there, and nobody waits for them."""
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


def test_an_encoder_brings_numba_only_when_loops_serve() -> None:
    """Where a GPU trains, numba need not be there."""
    code = """
import sys, torch
from model.config import ModelSettings
from model.network.encoders.hstu import Encoder
encoder = Encoder(ModelSettings(), dtype=torch.float64, generator=torch.Generator())
encoder(torch.ones(3, 64).double(), torch.tensor([0, 3]), torch.arange(3))
assert "numba" not in sys.modules
encoder.float()(torch.ones(3, 64), torch.tensor([0, 3]), torch.arange(3))
assert "numba" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_the_encoder_takes_the_kernels_in_float32_and_agrees_with_the_plain_path(activation: str, bias: str) -> None:
    """A whole encoder in float32 is within 1e-4 of itself in float64, which the plain path serves."""
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
    """Give the names of the operations behind an output."""
    names, waiting = "", [y.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and len(names) < 2000:
            names += node.name()
            waiting += [parent for parent, _ in node.next_functions]
    return names


def test_candidates_and_other_dtypes_are_left_to_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops know float32 on the CPU without candidates, want a token at least, and want to be compiled."""
    x = torch.zeros(3, 4)
    assert loops_serve(x, None)
    assert not loops_serve(x, torch.tensor([1]))
    assert not loops_serve(x.double(), None)
    assert not loops_serve(x[:0], None)
    with torch.autocast("cpu"):
        assert not loops_serve(x, None)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert not loops_serve(x, None)


def test_a_sequence_that_is_too_long_is_refused_as_everywhere() -> None:
    """The sentence is that of the plain path."""
    with pytest.raises(ModelError, match=r"Sequence 0 has 9 tokens .*more than max_len 8"):
        encode.batch_of(offsets_of([9]), max_len=8, tokens=9, activation="silu")


def test_what_is_compiled_is_kept_under_the_digest_of_all_sources() -> None:
    """Code that another file, or other flags, have changed is never taken from the cache of the day before."""
    for function in (layers.forward, sequence.attend, row_ops.gate):
        assert function.__qualname__.endswith("_".join((row_ops.SOURCES, *ANY_ORDER)))
