import itertools

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from model.config import ModelSettings
from model.errors import ModelError
from model.network.encoders import ENCODERS
from tests.model.attention.attention_cases import offsets_of

DOUBLE, DIM = torch.float64, 12
every = pytest.mark.parametrize("name", sorted(ENCODERS))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoder(name: str, seed: int = 0, dtype: torch.dtype = DOUBLE, bias: str = "none") -> nn.Module:
    shape = ModelSettings(encoder=name, bias=bias, dim=DIM, layers=2, heads=2, max_len=16)  # type: ignore[arg-type]
    made = ENCODERS[name](shape, dtype=dtype, generator=generator(seed))
    with torch.no_grad():  # starting weights would hide what this test looks for
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(seed + 1), dtype=dtype) * 0.5)
    return made


def batch(lengths: list[int], seed: int = 0, dtype: torch.dtype = DOUBLE) -> tuple[Tensor, Tensor, Tensor]:
    """Return x_LD, offsets, ts_ms_L of a random batch."""
    tokens = sum(lengths)
    x = torch.randn(tokens, DIM, generator=generator(seed), dtype=dtype)
    return x, offsets_of(lengths), 1_700_000_000_000 + torch.arange(tokens) * 1000


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


@every
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-10), (torch.float32, 1e-5)])
@given(lengths=st.lists(st.integers(0, 16), min_size=1, max_size=6), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_sequence_does_not_depend_on_its_batch(
    name: str, dtype: torch.dtype, tolerance: float, lengths: list[int], seed: int
) -> None:
    """Encoding sequences together equals encoding each alone, so that a batch may be split anywhere."""
    model = encoder(name, dtype=dtype)
    x, offsets, ts_ms = batch(lengths, seed, dtype)
    together = model(x, offsets, ts_ms)
    parts = [slice(a, b) for a, b in itertools.pairwise(offsets.tolist())]
    alone = [model(x[p], offsets_of([p.stop - p.start]), ts_ms[p]) for p in parts]
    assert together.shape == x.shape
    assert close(together, torch.cat(alone), tolerance)


@every
@given(length=st.integers(2, 16), seed=st.integers(0, 9), data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_token_does_not_depend_on_later_ones(name: str, length: int, seed: int, data: st.DataObject) -> None:
    """Changing the tokens from some place on changes the outputs from there on, and none before it, to the bit."""
    place = data.draw(st.integers(1, length - 1))
    model = encoder(name)
    x, offsets, ts_ms = batch([3, length, 2], seed)
    before = model(x, offsets, ts_ms)
    x[3 + place : 3 + length] += 1
    after = model(x, offsets, ts_ms)
    assert torch.equal(before[: 3 + place], after[: 3 + place])
    assert not (before[3 + place : 3 + length] == after[3 + place : 3 + length]).all(1).any()
    assert torch.equal(before[3 + length :], after[3 + length :])


@every
@given(history=st.integers(0, 15), candidates=st.integers(1, 9), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_candidates_in_one_pass_equal_candidates_one_by_one(
    name: str, history: int, candidates: int, seed: int
) -> None:
    """Each candidate's output is as if it alone followed the history; other sequences may have no candidates."""
    model = encoder(name)
    lengths = [3, history + candidates, 5]
    x, offsets, ts_ms = batch(lengths, seed)
    out = model(x, offsets, ts_ms, torch.tensor([0, candidates, 2]))
    assert close(out[:3], model(x[:3], offsets_of([3]), ts_ms[:3]))
    for c in range(candidates):
        rows = [*range(3, 3 + history), 3 + history + c]
        alone = model(x[rows], offsets_of([history + 1]), ts_ms[rows])
        assert close(out[3 + history + c], alone[-1])
        assert close(out[3 : 3 + history], alone[:-1])


@every
def test_weights_come_from_the_generator_alone(name: str) -> None:
    """Equal seeds give equal weights; the global generator has no influence and is not used."""
    states = []
    for seed in (4, 4, 5):
        torch.rand(3)
        before = torch.get_rng_state()
        shape = ModelSettings(encoder=name, dim=DIM, bias="none")  # type: ignore[arg-type]
        states.append(ENCODERS[name](shape, dtype=torch.float32, generator=generator(seed)).state_dict())
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert all(tensor.isfinite().all() for tensor in states[0].values())


@every
@pytest.mark.parametrize("lengths", [[], [0, 0], [1], [0, 2]])
@pytest.mark.parametrize("targets", [False, True])
def test_empty_and_single_token_batches_train(name: str, lengths: list[int], targets: bool) -> None:
    """No tokens or few, or candidates alone: the shapes hold, and a step of gradients runs."""
    x, offsets, ts_ms = batch(lengths)
    out = encoder(name)(x, offsets, ts_ms, torch.tensor(lengths, dtype=torch.int64) if targets else None)
    out.sum().backward()
    assert out.shape == x.shape


@every
def test_two_runs_agree_to_the_bit(name: str) -> None:
    """Outputs and the gradients of all weights that they depend on are reproducible in float32."""
    runs = []
    for _ in range(2):
        model = encoder(name, dtype=torch.float32)
        x, offsets, ts_ms = batch([16, 3, 16, 9, 9, 1], dtype=torch.float32)
        out = model(x, offsets, ts_ms)
        out.square().sum().backward()
        weights = [weight for name, weight in model.named_parameters() if not name.startswith("auxiliary.")]
        runs.append([out, *(weight.grad for weight in weights)])
        assert all(tensor.any() for tensor in runs[-1])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@every
@pytest.mark.parametrize("lengths", [[4, 4], [5, 0, 2]])
def test_gradients_are_those_of_finite_differences(name: str, lengths: list[int]) -> None:
    """Of the inputs and of every weight, in float64."""
    model = encoder(name)
    x, offsets, ts_ms = batch(lengths)
    names, weights = zip(*model.named_parameters(), strict=True)

    def output(x: Tensor, *values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        out: Tensor = torch.func.functional_call(model, parameters, (x, offsets, ts_ms))
        return out

    inputs = (x.requires_grad_(), *(w.detach().clone().requires_grad_() for w in weights))
    assert torch.autograd.gradcheck(output, inputs, fast_mode=True)


@every
def test_a_sequence_that_is_too_long_is_refused(name: str) -> None:
    """The sentence names it; candidates count as one token."""
    model = encoder(name)
    model(*batch([40]), torch.tensor([25]))
    with pytest.raises(ModelError, match=r"Sequence 1 has 17 tokens.*more than max_len 16"):
        model(*batch([3, 17]))
