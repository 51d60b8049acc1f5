import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn.functional import layer_norm, silu

from model.attention import ACTIVATIONS, cpu, cpu_kernels, cpu_passes
from model.attention.reference import attention as reference
from model.bias import BIASES, Bias, log_gaps, next_ms, time_buckets
from model.config import ModelSettings
from model.errors import ModelError
from model.hstu import Encoder
from model.kernels import bias_terms
from tests.model.attention_cases import golden, offsets_of
from tests.model.test_hstu import golden_layer, golden_times

EPS = 1e-6
VARIANTS = list(itertools.product(sorted(ACTIVATIONS), ("none", *BIASES)))
SECOND_MS = 1000


@dataclass(frozen=True)
class Case:
    """A random batch for one layer's gated attention, in float64 for the loops and float32 for the kernels."""

    lengths: list[int]
    heads: int
    d_qk: int
    d_v: int
    alpha: float
    activation: str
    bias: str
    threads: int
    seed: int

    @property
    def max_len(self) -> int:
        return max(self.lengths) + 1

    @property
    def offsets(self) -> Tensor:
        return offsets_of(self.lengths)

    def rng(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def times(self) -> tuple[Tensor, Tensor]:
        gaps = torch.rand(sum(self.lengths), generator=self.rng()).mul(14).exp().mul(SECOND_MS).long()
        ts_ms = 1_700_000_000_000 + gaps.cumsum(0)
        return ts_ms, next_ms(ts_ms, self.offsets)

    def z(self, dtype: torch.dtype) -> Tensor:
        width = 2 * self.heads * (self.d_qk + self.d_v)
        return torch.randn(sum(self.lengths), width, generator=self.rng(), dtype=torch.float64).to(dtype)

    def table(self, dtype: torch.dtype) -> Bias | None:
        if self.bias == "none":
            return None
        made = BIASES[self.bias](self.max_len, dtype=torch.float64, generator=self.rng())
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=self.rng(), dtype=torch.float64) * 0.5)
        return made.to(dtype)

    def fast(self) -> list[Tensor]:
        """Give y and the gradients of z and of the bias's parameters by the kernels."""
        z, table = self.z(torch.float32).requires_grad_(), self.table(torch.float32)
        shape = {"max_len": self.max_len, "tokens": len(z)}
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            batch = cpu.batch_of(self.offsets, **shape, activation=self.activation)
            if table is not None:
                batch = cpu.with_times(batch, *self.times(), time_buckets if self.bias == "bucketed" else None)
            heads = cpu.Heads(self.heads, self.d_qk, self.d_v, self.alpha, EPS)
            y = cpu.gated_attention(z, batch, heads, bias_terms(table))
            return self.results(y, z, table)
        finally:
            torch.set_num_threads(before)

    def slow(self) -> list[Tensor]:
        """Give the same by loops over rows, in float64."""
        z, table = self.z(torch.float64).requires_grad_(), self.table(torch.float64)
        widths = [self.heads * d for d in (self.d_v, self.d_v, self.d_qk, self.d_qk)]
        u, v, q, k = silu(z).split(widths, -1)
        q, k, v = (x.reshape(len(z), self.heads, -1) for x in (q, k, v))
        options: dict[str, Any] = {"max_len": self.max_len, "alpha": self.alpha, "activation": self.activation}
        o = reference(q, k, v, self.offsets, **options, bias=self.padded_bias(table)).flatten(1)
        return self.results(u * layer_norm(o, o.shape[-1:], eps=EPS), z, table)

    def padded_bias(self, table: Bias | None) -> Tensor | None:
        if table is None:
            return None
        ts_ms, asked_ms = self.times()
        at = torch.arange(max(self.lengths))
        starts = self.offsets[:-1, None]
        index = (starts + at).clamp(max=len(ts_ms) - 1)
        asked_s, ts_s = (ms[index].double() / 1000 for ms in (asked_ms, ts_ms))
        measured = table.measure(asked_s[:, :, None], ts_s[:, None, :])
        out: Tensor = table((at[None, None] - at[None, :, None] + self.max_len - 1).clamp(min=0), measured)
        return out

    def results(self, y: Tensor, z: Tensor, table: Bias | None) -> list[Tensor]:
        cotangent = torch.randn(y.shape, generator=self.rng(), dtype=torch.float64).to(y.dtype)
        inputs = [z, *(table.parameters() if table is not None else ())]
        return [y.detach(), *torch.autograd.grad((y * cotangent).sum(), inputs)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any))
    sizes = [draw(st.integers(1, limit)) for limit in (3, 9, 9)]
    activation, bias = draw(st.sampled_from(VARIANTS))
    alpha = draw(st.sampled_from([1.0, 0.3]))
    return Case(lengths, *sizes, alpha, activation, bias, draw(st.sampled_from([1, 2, 3])), draw(st.integers(0, 99)))


def far_apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Give the largest distance, each tensor measured by its own size."""
    sizes = [max(float(b.abs().max()), 1.0) for b in theirs]
    return max(float((a.double() - b).abs().max()) / size for a, b, size in zip(ours, theirs, sizes, strict=True))


def small(case: Case) -> bool:
    """Tell whether norm(o) would blow rounding up: rows of a width of one or two have hardly a spread."""
    return case.heads * case.d_v < 4


@given(cases())
@settings(max_examples=150, deadline=None)
def test_outputs_and_gradients_are_those_of_loops_in_float64(case: Case) -> None:
    """Any lengths, widths, activation, bias and number of threads: to the accuracy of float32."""
    if not small(case):
        assert far_apart(case.fast(), case.slow()) < 2e-4


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_ordinary_layers_agree_to_1e_5(activation: str, bias: str) -> None:
    """Heads of 16 and sequences of several blocks: the distance of float32, not of another formula."""
    case = Case([100, 0, 7, 64, 33, 1], 2, 16, 16, 0.25, activation, bias, 2, 5)
    assert far_apart(case.fast(), case.slow()) < 1e-5


@pytest.mark.parametrize("name", ["research_rel_bias", "research_rel_bias_no_ts"])
def test_a_layer_is_that_of_the_public_reference(name: str) -> None:
    """Output and the gradient of every weight, bias included, to 1e-5 in float32."""
    file = golden(name)
    layer, x = golden_layer(file).float(), file["x"].float().requires_grad_()
    batch = cpu.batch_of(file["x_offsets"], max_len=file.config["N"], tokens=len(x), activation="silu")
    if layer.bias is not None:
        batch = cpu.with_times(batch, *golden_times(file), time_buckets)
    out = layer.gated(x, batch)
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
    batch = cpu.batch_of(offsets, max_len=60, tokens=len(ts_ms), activation="silu")
    pairs = cpu.with_times(batch, ts_ms, asked_ms, time_buckets).pairs
    wanted = time_buckets(asked_ms[:, None].double() / 1000, ts_ms.double() / 1000)
    assert pairs.tolist() == wanted[torch.ones_like(wanted).tril().bool()].tolist()
    logs = cpu.with_times(batch, ts_ms, asked_ms, None).pairs
    wanted = log_gaps(asked_ms[:, None].double() / 1000, ts_ms.double() / 1000)
    assert np.allclose(logs, wanted[torch.ones_like(wanted).tril().bool()].numpy(), atol=1e-5)


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
@pytest.mark.parametrize("threads", [1, 2])
def test_equal_batches_give_equal_bits(activation: str, bias: str, threads: int) -> None:
    """Runs with one number of threads agree to the bit, side by side as well, outputs and gradients."""
    case = Case([40, 3, 64, 20, 20, 1, 0, 50], 2, 8, 8, 1.0, activation, bias, threads, 1)
    first = case.fast()
    with ThreadPoolExecutor(3) as pool:
        others = [run.result() for run in [pool.submit(case.fast) for _ in range(6)]]
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_huge_scores_give_finite_numbers(activation: str) -> None:
    """Scores of some 1e6 saturate: nothing overflows in the exponential, forward or backward."""
    case = Case([30, 20], 1, 8, 8, 1e6, activation, "none", 1, 2)
    assert all(torch.isfinite(x).all() for x in case.fast())


def test_the_exponential_is_that_of_float32() -> None:
    """A relative error below 3e-7 for small and 6e-6 for large arguments; beyond 60 the result stays as it is there."""

    @cpu_kernels.compiled
    def all_of(x: Any, out: Any) -> None:
        for i in range(len(x)):
            out[i] = cpu_kernels.exp(x[i])

    x = np.linspace(-60, 60, 100_001, dtype=np.float32)
    found, ends = np.empty_like(x), np.empty(2, np.float32)
    all_of(x, found)
    all_of(np.array([-1e30, 1e30], np.float32), ends)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(found / exact - 1).max() < 6e-6
    assert np.abs(found / exact - 1)[np.abs(x) < 1].max() < 3e-7
    assert ends.tolist() == [found[0], found[-1]]


@pytest.mark.parametrize(("activation", "bias"), VARIANTS)
def test_the_encoder_takes_the_kernels_in_float32_and_agrees_with_the_plain_path(activation: str, bias: str) -> None:
    """A whole encoder in float32 is within 1e-4 of itself in float64, which the plain path serves."""
    chosen = ModelSettings(attention=activation, bias=bias, dim=32, max_len=48)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    encoder = Encoder(chosen, dtype=torch.float32, generator=generator)
    lengths = [48, 5, 0, 31, 16]
    x, ts_ms = torch.randn(100, 32, generator=generator), torch.arange(100) * 77_777
    single = encoder(x, offsets_of(lengths), ts_ms)
    assert "Gated" in name_of_path(single)
    double = encoder.double()(x.double(), offsets_of(lengths), ts_ms)
    assert "Gated" not in name_of_path(double)
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


def test_candidates_and_other_dtypes_are_left_to_the_plain_path() -> None:
    """The kernels know float32 on the CPU without candidates, and want a token at least."""
    x = torch.zeros(3, 4)
    assert cpu.could_serve(x, None)
    assert not cpu.could_serve(x, torch.tensor([1]))
    assert not cpu.could_serve(x.double(), None)
    assert not cpu.could_serve(x[:0], None)
    with torch.autocast("cpu"):
        assert not cpu.could_serve(x, None)


def test_a_sequence_that_is_too_long_is_refused_as_everywhere() -> None:
    """The sentence is that of the plain path."""
    with pytest.raises(ModelError, match=r"Sequence 0 has 9 tokens .*more than max_len 8"):
        cpu.batch_of(offsets_of([9]), max_len=8, tokens=9, activation="silu")


def test_what_is_compiled_is_kept_under_the_digest_of_all_sources() -> None:
    """Code that another file has changed is never taken from the cache of the day before."""
    assert cpu_passes.forward.__qualname__.endswith(cpu_kernels.SOURCES)
    assert cpu_kernels.gate.__qualname__.endswith(cpu_kernels.SOURCES)
