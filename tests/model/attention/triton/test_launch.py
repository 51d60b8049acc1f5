"""The kernels of attention: on a GPU, or interpreted on the CPU."""

import inspect
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import Phase, given, settings, strategies as st
from torch import Tensor

from model.attention.reference import attention as reference
from model.attention.relative_bias import BIASES, RelativeBias, next_ms
from model.attention.triton import block_sizes
from model.attention.triton.api import attend_fused
from model.attention.triton.batch import FusedBatch, clock_of, fused_batch, interpreted
from model.attention.triton.block_sizes import Config
from model.attention.triton.self_check import Case, CheckProblem, Shape, dense_bias
from model.config import ModelSettings
from model.network.encoders.hstu import Encoder, Layer
from tests.model.attention.attention_cases import (
    Case as RandomCase,
    cases,
    golden,
    offsets_of,
    tiled_attention as plain,
)
from tests.model.attention.triton.triton_cases import DEVICE, ROOM, _living_device, assert_as_good, pytestmark, rng  # noqa: F401

BLOCKS = [Config(m, n, 4, 1) for m, n in ((16, 16), (32, 16), (16, 32))]
PHASES = [Phase.reuse, Phase.generate, *[Phase.shrink] * interpreted()]  # on a device smaller examples mean compiling


def fused(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, bias: None = None, **options: Any) -> Tensor:
    """Return the attention by the kernels, with the signature of `reference.attention`."""
    alpha, activation = options.pop("alpha"), options.pop("activation", "silu")
    targets = options.pop("num_targets")
    targets = None if targets is None else targets.to(DEVICE)
    batch = fused_batch(offsets.to(DEVICE), tokens=len(q), num_targets=targets, **options)
    return attend_fused(*(x.to(DEVICE) for x in (q, k, v)), batch, alpha, activation).cpu()


def in_blocks(blocks: Config) -> Any:
    """Set the block sizes, so that a short sequence has several tiles on a device as well."""
    return patch("model.attention.triton.launch.fixed", lambda *_: blocks)


def with_gradients(function: Any, case: RandomCase, dtype: torch.dtype) -> list[Tensor]:
    inputs = [x.to(torch.float32).to(dtype).detach().requires_grad_() for x in case.inputs()]
    out = case.run(function, inputs)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return [out, *torch.autograd.grad((out * cotangent).sum(), inputs)]


@given(cases(longest=36).filter(lambda case: not case.biased and sum(case.lengths)), st.sampled_from(BLOCKS))
@settings(max_examples=6 if interpreted() else 25, deadline=None, phases=PHASES)  # two seconds of compiling each
def test_outputs_and_gradients_are_as_good_as_plain_pytorchs(case: RandomCase, blocks: Config) -> None:
    """For any lengths, candidates, window, widths, activation and block sizes, in float32."""
    with in_blocks(blocks):
        runs = [with_gradients(path, case, torch.float32) for path in (fused, plain)]
    assert_as_good(*runs, with_gradients(reference, case, torch.float64))


@pytest.mark.parametrize(("activation", "window"), [("silu", 1), ("softmax", 17)])
def test_a_window_that_ends_just_behind_a_tile_reaches_the_next_one(activation: str, window: int) -> None:
    """The one row or key in the next tile counts, forward and backward, and a softmax is rescaled there."""
    options = {"activation": activation, "alpha": 2.0, "max_len": 36, "num_targets": None, "window": window}
    case = RandomCase([36], [], 1, 8, 8, options, False, 0, 128, 1 << 16)
    with in_blocks(BLOCKS[0]):
        runs = [with_gradients(path, case, torch.float32) for path in (fused, plain)]
    assert_as_good(*runs, with_gradients(reference, case, torch.float64))


@pytest.mark.parametrize("tokens", [1 << 10, pytest.param(1 << 14, marks=pytest.mark.slow)])
def test_a_long_sequence(tokens: int) -> None:
    """Tokens that far from the first one are found; a window and large tiles keep the interpreter fast."""
    options = {"activation": "softmax", "alpha": 0.5, "max_len": tokens, "num_targets": None, "window": 40}
    case = RandomCase([3, tokens], [], 1, 8, 8, options, False, 0, 128, 1 << 16)
    with in_blocks(Config(128, 128, 4, 1)) if interpreted() else nullcontext():
        ours = with_gradients(fused, case, torch.float32)
    for found, exact in zip(ours, with_gradients(plain, case, torch.float64), strict=True):
        assert torch.allclose(found.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mha_causal", "mha_targets", "mha_alpha1"])
def test_outputs_and_gradients_are_those_of_the_public_reference(name: str) -> None:
    """Causal, with candidates and unscaled: equal to 1e-5 in float32."""
    file = golden(name)
    inputs = [file[x].float().requires_grad_() for x in "qkv"]
    options = {"max_len": file.config["N"], "alpha": file.config["alpha"], "num_targets": file.get("num_targets")}
    out = fused(*inputs, file["seq_offsets"], **options)
    grads = torch.autograd.grad((out * file["cot"].float()).sum(), inputs)
    for ours, key in zip([out, *grads], ("out", "grad_q", "grad_k", "grad_v"), strict=True):
        assert torch.allclose(ours.double(), file[key], rtol=1e-5, atol=1e-5), key


def test_candidates_in_one_pass_equal_the_public_reference_with_cached_keys() -> None:
    """Candidates together give the same as one by one on the cached keys of the history."""
    file = golden("mha_cached_delta")
    options = {"max_len": file.config["N"], "alpha": file.config["alpha"], "num_targets": file["num_targets"]}
    out = fused(*(file[x].float() for x in ("q_full", "k", "v")), file["seq_offsets"], **options)
    assert torch.allclose(out.double(), file["out_full"], rtol=1e-5, atol=1e-5)


VARIANTS: list[Any] = [(a, b, "float32") for a in ("silu", "softmax") for b in BIASES]
VARIANTS += [("silu_seen", "bucketed", "float32"), ("silu", "bucketed", "bfloat16")]
OTHERS = [("silu_seen", "functional", "float32"), ("softmax", "functional", "bfloat16")]
VARIANTS += [pytest.param(*other, marks=pytest.mark.slow) if interpreted() else other for other in OTHERS]
SHAPE = Shape((20, 0, 1, 17), (9, 0, 1, 0), 9) if interpreted() else Shape((40, 0, 1, 33), (19, 0, 1, 0), 9)


@pytest.mark.parametrize(("activation", "bias", "dtype"), VARIANTS)
def test_a_bias_and_its_gradients_are_as_good_as_plain_pytorchs(activation: str, bias: str, dtype: str) -> None:
    """Positions and times, candidates and a window: the gradients of all parameters of the bias too.

    Triton's interpreter rounds bfloat16 towards zero, with twice the error of PyTorch's rounding to nearest. A sum of
    slopes that PyTorch hits upon by rounding has a floor for its error: relative to itself, or, if it is one number in
    which much cancels, to the largest result, since the rounding of the output goes into each row's slopes.
    """
    kind = getattr(torch, dtype)
    problem = CheckProblem(SHAPE, Case(DEVICE, kind, 5, 5, activation, bias, 2), bias, seed=3)
    exact = problem.reference()
    by_kernels, by_pytorch = problem.fused(), in_plain_pytorch(problem, kind)
    size = [by_kernels[name] for name in exact], [by_pytorch[name] for name in exact], list(exact.values())
    if kind == torch.bfloat16:
        sizes = [e.abs().max() for e in exact.values()]
        floors = [
            2**-8 * (size if e.numel() > 1 else max(sizes)) for size, e in zip(sizes, exact.values(), strict=True)
        ]
        pairs = zip(*size[1:], floors, strict=True)
        size[1][:] = [e + (p - e).abs().max().clamp(min=floor) for p, e, floor in pairs]
    assert_as_good(*size, times=4 if kind == torch.bfloat16 and interpreted() else 2)


def in_plain_pytorch(problem: CheckProblem, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a problem's results by tiles in plain PyTorch in a dtype, the bias in float32."""
    assert problem.bias is not None
    bias = type(problem.bias)(192, dtype=torch.float32, generator=torch.Generator())
    bias.load_state_dict(problem.bias.state_dict())
    leaves = {name: leaf.to(dtype).requires_grad_() for name, leaf in problem.leaves.items()}
    options = {"max_len": 192, "alpha": problem.alpha, "activation": problem.case.activation}
    options |= {"num_targets": problem.targets, "window": problem.shape.window}
    dense = dense_bias(bias, problem, 192).to(dtype)
    out = plain(*leaves.values(), problem.offsets, **options, bias=dense)  # type: ignore[arg-type]
    parameters = dict(bias.named_parameters())
    wanted = [*leaves.values(), *parameters.values()]
    gradients = torch.autograd.grad((out * problem.cotangent.to(dtype)).sum(), wanted)
    names = [f"gradient of {name}" for name in (*leaves, *parameters)]
    return {"output": out.double(), **{n: g.double() for n, g in zip(names, gradients, strict=True)}}


@pytest.mark.parametrize("name", ["research_rel_bias", "research_rel_bias_no_ts"])
def test_a_layer_and_its_gradients_are_those_of_the_public_reference(name: str) -> None:
    """With and without the relative bias, to 1e-4 in float32, the gradients of both tables included."""
    file = golden(name)
    layer, batch = layer_of(file)
    x = file["x"].float().to(DEVICE).requires_grad_()
    out = layer.fused(x, batch, "silu")
    (out * file["cot"].float().to(DEVICE)).sum().backward()
    found = {"out": out, "grad_x": x.grad, "grad_w_uvqk": layer.w_uvqk.grad, "grad_w_o": layer.w_out.grad}
    if layer.bias is not None:
        found |= {"grad_rab_pos_w": layer.bias.positions.grad, "grad_rab_ts_w": layer.bias.times.grad}
    for key, value in found.items():
        assert value is not None
        assert torch.allclose(value.cpu().double(), file[key], rtol=1e-4, atol=1e-4), key


def layer_of(file: Any) -> tuple[Layer, FusedBatch]:
    """Return the layer of a golden file in float32, and its batch."""
    config, bias, generator = file.config, None, torch.Generator()
    state = {"w_uvqk": file["w_uvqk"], "w_out": file["w_o"], "b_out": file["b_o"]}
    clock = None
    if config["use_timestamps"]:
        lengths, ts_ms = file["lengths"].tolist(), file["timestamps"] * 1000
        ts_ms_L = torch.cat([ts_ms[b, :n] for b, n in enumerate(lengths)])
        request_ms = torch.stack([ts_ms[b, min(n, ts_ms.shape[1] - 1)] for b, n in enumerate(lengths)])
        clock = clock_of(ts_ms_L, next_ms(ts_ms_L, file["x_offsets"], request_ms=request_ms)).to(DEVICE)
        bias = RelativeBias(config["N"], dtype=torch.float32, generator=generator)
        state |= {"bias.positions": file["rab_pos_w"], "bias.times": file["rab_ts_w"]}
    sizes = {"heads": config["H"], "d_qk": config["dqk"], "d_v": config["dv"]}
    layer = Layer(config["D"], **sizes, alpha=1.0, bias=bias, dtype=torch.float32, generator=generator)
    layer.load_state_dict(state)
    shape = {"max_len": config["N"], "tokens": len(file["x"])}
    return layer.to(DEVICE), fused_batch(file["x_offsets"].to(DEVICE), **shape, clock=clock)


@pytest.mark.parametrize(("attention", "bias"), [("silu", "bucketed"), ("softmax", "functional")])
@given(lengths=st.lists(st.integers(0, 16), min_size=1, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=1 if interpreted() else 20, deadline=None, phases=PHASES)
def test_an_encoder_trains_as_it_does_in_plain_pytorch(
    attention: str, bias: str, lengths: list[int], seed: int
) -> None:
    """Outputs and the gradients of all weights are as good, whichever path is taken; lengths 0, 1 and N among them."""
    shape = {"dim": 12, "layers": 2, "heads": 2, "max_len": 16}
    model = Encoder(ModelSettings(attention=attention, bias=bias, **shape), dtype=torch.float32, generator=rng(seed))
    model.to(DEVICE)
    lengths = [16, 1, *lengths]
    x = torch.randn(sum(lengths), 12, generator=rng(seed)).to(DEVICE)
    ts_ms = (1_700_000_000_000 + torch.randint(0, 10**7, (len(x),), generator=rng(seed)).cumsum(0)).to(DEVICE)
    offsets = offsets_of(lengths).to(DEVICE)
    runs = []
    for run, dtype in ((model._fused, torch.float32), (model._plain, torch.float32), (model._plain, torch.float64)):
        model.zero_grad()
        model.to(dtype)
        out = run(x.to(dtype), offsets, ts_ms, None, next_ms(ts_ms, offsets))
        out.square().sum().backward()
        runs.append([out.detach(), *(parameter.grad for parameter in model.parameters())])
    assert_as_good(*runs)


@pytest.mark.parametrize("lengths", [[], [0, 0], [1], [0, 1, 0]])
def test_empty_batches_and_sequences_give_empty_outputs_with_gradients(lengths: list[int]) -> None:
    """No sequence, only empty ones, one token: the output has a row per token, and backward runs."""
    q, k, v = (torch.ones(sum(lengths), 2, d, requires_grad=True) for d in (3, 3, 2))
    out = fused(q, k, v, offsets_of(lengths), max_len=4, alpha=1.0, num_targets=None)
    out.sum().backward()
    assert out.shape == v.shape
    assert q.grad is not None
    assert k.grad is not None
    assert v.grad is not None


def test_kernels_are_given_all_their_arguments_and_none_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel takes what it needs of the arguments; each argument is one that a kernel takes."""
    from model.attention.triton import launch as triton_launch

    launch, seen, made, taken = triton_launch._launch, [], set(), set()

    def checked(kernel: Any, grid: Any, arguments: dict[str, Any], tuned: bool) -> None:
        wanted = {*inspect.signature(kernel.fn).parameters}
        assert wanted <= {*arguments, *block_sizes.fixed(kernel.__name__, arguments).blocks}
        seen.append(kernel.__name__)
        made.update(arguments)
        taken.update(wanted)
        launch(kernel, grid, arguments, tuned)

    monkeypatch.setattr(triton_launch, "_launch", checked)
    shape = Shape((5, 0, 2), (2, 0, 1), 3)
    CheckProblem(shape, Case(DEVICE, torch.float32, 4, 4, "softmax", "bucketed", 2), "bucketed", seed=0).fused()
    kernels = ["attention", "key_gradients", *["pair_bias"] * 2, "pair_slopes", "place_sums", "query_gradients"]
    assert sorted(seen) == kernels
    assert made <= taken


@pytest.mark.slow
def test_equal_batches_give_equal_bits() -> None:
    """Two runs agree to the bit, the gradients of the bias included: no two programs add to one place."""
    problem = CheckProblem(SHAPE, Case(DEVICE, torch.float32, 8, 8, "silu", "bucketed", 2), "bucketed", seed=0)
    first, second = problem.fused(), problem.fused()
    assert all(torch.equal(first[name], second[name]) for name in first)
