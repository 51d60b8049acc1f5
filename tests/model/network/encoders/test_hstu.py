from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn.functional import layer_norm, silu

from model.attention.activations import ACTIVATIONS, activation_named
from model.attention.reference import attention as reference
from model.attention.relative_bias import BIASES, Relations, RelativeBias, next_ms
from model.attention.tile_plan import plan_tiles
from model.config import ModelSettings
from model.network.encoders.hstu import Encoder, Layer
from tests.model.attention.attention_cases import Golden, golden, offsets_of

VARIANTS = [(attention, bias) for attention in sorted(ACTIVATIONS) for bias in ("none", *BIASES)]
DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def golden_layer(file: Golden) -> Layer:
    """Build a layer with the weights of a golden file."""
    config = file.config
    sizes = {name: config[name] for name in ("N", "D", "H", "dqk", "dv")}
    state = {"w_uvqk": file["w_uvqk"], "w_out": file["w_o"], "b_out": file["b_o"]}
    bias = None
    if config["use_timestamps"]:
        bias = RelativeBias(sizes["N"], dtype=DOUBLE, generator=generator())
        state |= {"bias.positions": file["rab_pos_w"], "bias.times": file["rab_ts_w"]}
    heads = {"heads": sizes["H"], "d_qk": sizes["dqk"], "d_v": sizes["dv"]}
    layer = Layer(sizes["D"], **heads, alpha=1.0, bias=bias, dtype=DOUBLE, generator=generator())
    layer.load_state_dict(state)
    return layer


def golden_times(file: Golden) -> tuple[Tensor, Tensor]:
    """Return each token's own time and the time from which it looks back, in ms.

    The reference pads with zeros, and the last row of a short sequence looks back from there.
    """
    ts, lengths = file["timestamps"] * 1000, file["lengths"].tolist()
    ts_ms = torch.cat([ts[b, :n] for b, n in enumerate(lengths)])
    request_ms = torch.stack([ts[b, min(n, ts.shape[1] - 1)] for b, n in enumerate(lengths)])
    return ts_ms, next_ms(ts_ms, file["x_offsets"], request_ms=request_ms)


def run_golden(layer: Layer, file: Golden, x: Tensor) -> Tensor:
    plan = plan_tiles(file["x_offsets"], max_len=file.config["N"], tokens=len(x), heads=2)
    relations = Relations(plan, *golden_times(file)) if layer.bias is not None else None
    out: Tensor = layer(x, plan, activation_named("silu")(plan, DOUBLE), relations)
    return out


@pytest.mark.parametrize("name", ["research_rel_bias", "research_rel_bias_no_ts"])
def test_outputs_and_gradients_of_a_layer_are_those_of_the_public_reference(name: str) -> None:
    """With and without the relative bias, to 1e-10 in float64, the gradient of every weight included."""
    file = golden(name)
    layer, x = golden_layer(file), file.leaf("x")
    out = run_golden(layer, file, x)
    (out * file["cot"]).sum().backward()
    found = {"out": out, "grad_x": x.grad, "grad_w_uvqk": layer.w_uvqk.grad, "grad_w_o": layer.w_out.grad}
    if layer.bias is not None:
        found |= {"grad_rab_pos_w": layer.bias.positions.grad, "grad_rab_ts_w": layer.bias.times.grad}
    for key, value in found.items():
        assert value is not None
        assert torch.allclose(value, file[key], rtol=1e-10, atol=1e-10), key


def encoder(attention: str, bias: str, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Encoder:
    shape: dict[str, Any] = {"dim": 12, "layers": 2, "heads": 2, "max_len": 16}
    made = Encoder(ModelSettings(attention=attention, bias=bias, **shape), dtype=dtype, generator=generator(seed))
    with torch.no_grad():  # starting weights of 0.02 would hide what this test looks for
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(seed + 1), dtype=DOUBLE) * 0.5)
    return made


def batch(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return x_LD, offsets, ts_ms_L of a random batch."""
    tokens = sum(lengths)
    x = torch.randn(tokens, 12, generator=generator(seed), dtype=DOUBLE)
    gaps = torch.randint(0, 10**7, (tokens,), generator=generator(seed))
    return x, offsets_of(lengths), 1_700_000_000_000 + gaps.cumsum(0)


@pytest.mark.parametrize(("attention", "bias"), VARIANTS)
@given(lengths=st.lists(st.integers(0, 16), min_size=1, max_size=5), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_sequence_does_not_depend_on_its_batch(attention: str, bias: str, lengths: list[int], seed: int) -> None:
    """Encoding sequences together equals encoding each alone."""
    model = encoder(attention, bias)
    x, offsets, ts_ms = batch(lengths, seed)
    together = model(x, offsets, ts_ms)
    parts = [slice(a, b) for a, b in zip(offsets.tolist(), offsets.tolist()[1:], strict=False)]
    alone = [model(x[p], offsets_of([p.stop - p.start]), ts_ms[p]) for p in parts]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("attention", "bias"), VARIANTS)
def test_a_token_depends_on_no_later_one_but_for_the_time_of_the_next(attention: str, bias: str) -> None:
    """Changing token 8 and its time leaves rows 0 to 6 unchanged; row 7 depends on the next time."""
    model = encoder(attention, bias)
    x, offsets, ts_ms = batch([12])
    before = model(x, offsets, ts_ms)
    x[8] += 1
    unmoved = model(x, offsets, ts_ms)
    ts_ms[8] += 10**9
    after = model(x, offsets, ts_ms)
    assert torch.equal(before[:8], unmoved[:8])
    assert torch.equal(before[:7], after[:7])
    assert torch.equal(before[7], after[7]) == (bias == "none")


@pytest.mark.parametrize(("attention", "bias"), VARIANTS)
@given(history=st.integers(0, 15), candidates=st.integers(1, 40), seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_candidates_in_one_pass_equal_candidates_one_by_one(
    attention: str, bias: str, history: int, candidates: int, seed: int
) -> None:
    """Each candidate's output is as if it alone followed the history, whatever their number."""
    model = encoder(attention, bias)
    x, offsets, ts_ms = batch([3, history + candidates], seed)
    ts_ms[3 + history :] = ts_ms[3 + history]
    out = model(x, offsets, ts_ms, torch.tensor([0, candidates]))
    for c in range(candidates):
        rows = [*range(3, 3 + history), 3 + history + c]
        alone = model(x[rows], offsets_of([history + 1]), ts_ms[rows])
        assert torch.allclose(out[3 + history + c], alone[-1], rtol=1e-10, atol=1e-10)
        assert torch.allclose(out[3 : 3 + history], alone[:-1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("attention", "bias"), VARIANTS)
def test_equal_seeds_give_equal_encoders(attention: str, bias: str) -> None:
    """Weights come from the generator alone; the global one has no influence."""
    settings = ModelSettings(attention=attention, bias=bias)
    states = []
    for _ in range(2):
        torch.rand(3)
        states.append(Encoder(settings, dtype=torch.float32, generator=generator(4)).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any("bias.times" in name for name in states[0]) == (bias == "bucketed")


@pytest.mark.parametrize(("attention", "bias"), VARIANTS)
@pytest.mark.parametrize("lengths", [[], [0, 0], [1]])
def test_empty_and_single_token_batches_train(attention: str, bias: str, lengths: list[int]) -> None:
    """No tokens or one: the shapes hold, and a step of gradients runs."""
    model = encoder(attention, bias)
    x, offsets, ts_ms = batch(lengths)
    out = model(x, offsets, ts_ms)
    out.sum().backward()
    assert out.shape == x.shape


@pytest.mark.parametrize(("attention", "bias"), VARIANTS)
def test_two_runs_agree_to_the_bit(attention: str, bias: str) -> None:
    """Outputs and the gradients of all weights are reproducible in float32."""
    runs = []
    for _ in range(2):
        model = encoder(attention, bias, dtype=torch.float32)
        x, offsets, ts_ms = batch([16, 3, 16, 9, 9, 1])
        out = model(x.float(), offsets, ts_ms)
        out.square().sum().backward()
        runs.append([out, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize(("attention", "alpha"), [("silu", 1.0), ("silu_seen", 1.0), ("softmax", 6**-0.5)])
def test_a_layer_is_the_papers_equation(attention: str, alpha: float) -> None:
    """One layer without bias, written out with the loops: SiLU unscaled, softmax scaled by 1/sqrt(d_qk)."""
    layer = encoder(attention, "none").layers[0]
    x, offsets, _ = batch([9, 4])
    assert isinstance(layer, Layer)
    u, v, q, k = silu(layer_norm(x, (12,), eps=1e-6) @ layer.w_uvqk).chunk(4, dim=1)
    q, k, v = (part.reshape(13, 2, 6) for part in (q, k, v))
    o = reference(q, k, v, offsets, max_len=16, alpha=alpha, activation=attention).flatten(1)
    wanted = (u * layer_norm(o, (12,), eps=1e-6)) @ layer.w_out.T + layer.b_out + x
    plan = plan_tiles(offsets, max_len=16, tokens=13, heads=2)
    found = layer(x, plan, activation_named(attention)(plan, DOUBLE), None)
    assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-10)
