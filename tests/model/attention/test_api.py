import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from model.attention import ACTIVATIONS, Tile, attention, plan_tiles
from model.attention.reference import attention as reference
from model.errors import ModelError
from tests.model.attention.attention_cases import Case, cases, golden, offsets_of

PATHS = [attention, reference]  # every implementation of the one signature runs the laws


def gradients(output: Tensor, inputs: list[Tensor], seed: int = 0) -> list[Tensor]:
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return list(torch.autograd.grad((output * cotangent.to(output.dtype)).sum(), inputs))


def close(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> bool:
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["mha_causal", "mha_targets", "mha_alpha1"])
def test_outputs_and_gradients_are_those_of_the_public_reference(path: object, name: str) -> None:
    """Causal, with candidates and unscaled: equal to 1e-10 in float64."""
    file = golden(name)
    inputs = [file.leaf(x) for x in "qkv"]
    options = {"max_len": file.config["N"], "alpha": file.config["alpha"], "num_targets": file.get("num_targets")}
    out = path(*inputs, file["seq_offsets"], **options)  # type: ignore[operator]
    grads = torch.autograd.grad((out * file["cot"]).sum(), inputs)
    assert close([out, *grads], [file[x] for x in ("out", "grad_q", "grad_k", "grad_v")], 1e-10)


def test_candidates_in_one_pass_equal_the_public_reference_with_cached_keys() -> None:
    """What candidates give beside one another is what they give one by one on the cached keys of the history."""
    file = golden("mha_cached_delta")
    options = {"max_len": file.config["N"], "alpha": file.config["alpha"], "num_targets": file["num_targets"]}
    out = attention(file["q_full"], file["k"], file["v"], file["seq_offsets"], **options)
    ends = file["seq_offsets"][1:].tolist()
    last = torch.cat([out[end - file.config["delta"] : end] for end in ends])
    assert close([out, last], [file["out_full"], file["out"]], 1e-10)


@given(cases())
@settings(max_examples=120, deadline=None)
def test_the_fast_path_agrees_with_loops_over_every_row(case: Case) -> None:
    """Any lengths, candidates, window, bias, activation, cut into tiles: outputs and gradients are the loops'."""
    ours, theirs = (case.run(path, case.inputs()) for path in PATHS)
    assert close([ours], [theirs], 1e-10)
    sides = []
    for path in PATHS:
        inputs = case.inputs()
        sides.append(gradients(case.run(path, inputs), inputs) if sum(case.lengths) else [])
    assert close(*sides, 1e-10)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_long_sequences_in_float32_stay_within_1e_5_of_float64_loops(activation: str) -> None:
    """Sequences longer than a tile, in tiles of the real size."""
    options = {"activation": activation, "alpha": 0.3, "max_len": 300, "num_targets": None, "window": 0}
    case = Case([300, 1, 140], [], 2, 8, 8, options, True, 0, 128, 1 << 16)
    double, single = case.inputs(), case.inputs(torch.float32)
    assert torch.allclose(case.run(attention, single).double(), case.run(reference, double), atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_gradients_pass_gradcheck(path: object, activation: str) -> None:
    """The derivative of every input, the bias too, is that of finite differences."""
    options = {
        "activation": activation,
        "alpha": 0.7,
        "max_len": 8,
        "num_targets": torch.tensor([2, 0, 1]),
        "window": 2,
    }
    case = Case([6, 0, 3], [2, 0, 1], 2, 3, 2, options, True, 1, 2, 12)
    assert torch.autograd.gradcheck(lambda *inputs: case.run(path, list(inputs)), case.inputs())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("change", ["future", "other sequence"])
def test_no_row_owes_anything_to_what_it_does_not_see(path: object, activation: str, change: str) -> None:
    """Changed keys and values after a row, or in another sequence, leave its output as it was, to the bit."""
    options = {"activation": activation, "alpha": 1.0, "max_len": 16, "num_targets": None, "window": 0}
    case = Case([9, 7], [], 2, 4, 4, options, False, 3, 128, 1 << 16)
    q, k, v = (x.detach() for x in case.inputs())
    before = case.run(path, [q, k, v])
    spot, untouched = (
        (slice(5, 9), [*range(5), *range(9, 16)]) if change == "future" else (slice(0, 9), [*range(9, 16)])
    )
    k[spot] += 3.0
    v[spot] -= 5.0
    after = case.run(path, [q, k, v])
    assert torch.equal(before[untouched], after[untouched])
    assert not torch.equal(before, after)


def test_softmax_weights_of_the_keys_seen_sum_to_one() -> None:
    """Values of one give one at every row: nothing leaks to hidden keys, and candidates have their own key too."""
    q = torch.randn(9, 2, 4, generator=torch.Generator().manual_seed(0))
    options = {"max_len": 9, "alpha": 0.5, "activation": "softmax", "num_targets": torch.tensor([3, 0])}
    out = attention(q, q, torch.ones(9, 2, 3), offsets_of([7, 2]), **options)
    assert torch.allclose(out, torch.ones_like(out))


def test_silu_over_the_keys_seen_is_a_mean_over_them() -> None:
    """Every row's weights are those of max_len times max_len over what it sees: window, candidates, self counted."""
    q = torch.randn(10, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options = {"max_len": 16, "alpha": 0.5, "num_targets": torch.tensor([3, 0]), "window": 2}
    by_max, by_seen = (attention(q, q, q, offsets_of([7, 3]), activation=a, **options) for a in ("silu", "silu_seen"))
    seen = torch.tensor([1, 2, 3, 3, 3, 3, 3, 1, 2, 3], dtype=torch.float64)
    assert torch.allclose(by_seen, by_max * (16 / seen)[:, None, None], rtol=1e-12)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [1], [0, 1, 0]])
def test_empty_batches_and_sequences_give_empty_outputs_with_gradients(lengths: list[int]) -> None:
    """No sequence, only empty ones, one token: the output has a row per token, and backward runs."""
    tokens = sum(lengths)
    q, k, v = (torch.ones(tokens, 2, d, requires_grad=True) for d in (3, 3, 2))
    out = attention(q, k, v, offsets_of(lengths), max_len=4, alpha=1.0)
    out.sum().backward()
    assert out.shape == v.shape
    assert q.grad is not None
    assert k.grad is not None
    assert v.grad is not None


def test_a_bias_may_be_a_function_of_the_tile() -> None:
    """A function that looks the same numbers up gives the same output, and never sees more than a tile."""
    options = {"activation": "silu", "alpha": 1.0, "max_len": 12, "num_targets": torch.tensor([4, 0]), "window": 0}
    case = Case([12, 5], [4, 0], 2, 4, 4, options, True, 5, 3, 20)
    q, k, v, table = case.inputs()
    seen = []

    def lookup(tile: Tile) -> Tensor:
        seen.append(tile)
        return table[tile.sequences[:, None, None], tile.rows, tile.keys]

    assert torch.equal(case.run(attention, [q, k, v, lookup]), case.run(attention, [q, k, v, table]))
    assert max(tile.visible.shape[-2] for tile in seen) == 3


@given(st.integers(0, 50))
@settings(max_examples=5, deadline=None)
def test_equal_batches_give_equal_bits(seed: int) -> None:
    """Two runs with the same number of threads agree to the bit, in outputs and in gradients."""
    options = {"activation": "silu", "alpha": 1.0, "max_len": 160, "num_targets": None, "window": 0}
    case = Case([150, 20, 90, 20, 3, 0, 60], [], 2, 8, 8, options, True, seed, 128, 1 << 16)
    runs = []
    for _ in range(2):
        inputs = case.inputs(torch.float32)
        out = case.run(attention, inputs)
        runs.append([out, *gradients(out, inputs)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_padding_is_bounded() -> None:
    """The tiles of very unlike lengths hold less than twice the scores that are wanted."""
    lengths = torch.randint(1, 400, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    plan = plan_tiles(offsets_of(lengths), max_len=400, tokens=sum(lengths), heads=2)
    scores = sum(len(tile.sequences) * tile.visible[0].numel() for tile in plan.tiles)
    assert scores < 2 * sum(n * (n + 1) // 2 for n in lengths)


def test_many_candidates_do_not_pay_for_one_another() -> None:
    """1,000 candidates on a history of 50 cost their keys in the history and their own, not one another's."""
    plan = plan_tiles(offsets_of([1050]), max_len=64, tokens=1050, heads=2, num_targets=torch.tensor([1000]))
    assert sum(tile.visible.numel() for tile in plan.tiles) == 50 * 50 + 1000 * 51


Q, OFFSETS = torch.zeros(5, 2, 3), offsets_of([2, 3])
WRONG = [
    ({"activation": "relu"}, "no attention activation 'relu'; known are silu, silu_seen, softmax"),
    ({"k": torch.zeros(5, 2, 4)}, r"q and k as \[L, H, d_qk\].*k \[5, 2, 4\]"),
    ({"v": torch.zeros(4, 2, 3)}, r"v \[4, 2, 3\]"),
    ({"v": torch.zeros(5, 2, 3).double()}, "one floating dtype"),
    ({"offsets": offsets_of([2, 2])}, "from 0 to 4 .*must rise from 0 to 5"),
    ({"offsets": torch.tensor([0, 6, 5])}, "shortest sequence: -1"),
    ({"offsets": OFFSETS.int()}, "offsets must be int64"),
    ({"num_targets": torch.tensor([0])}, r"num_targets must be int64 \[B\] = \[2\], not int64 \[1\]"),
    ({"num_targets": torch.tensor([0, 4])}, "Sequence 1 has 3 tokens, so 4 of them cannot be candidates"),
    ({"max_len": 2}, "Sequence 1 has 3 tokens .*more than max_len 2"),
    ({"window": -1}, "window is -1"),
    ({"bias": torch.zeros(2, 2, 2)}, r"shape \[2, 2, 2\].*must be \[2, N, N\] with N at least 3"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_what_is_wrong_is_said_in_a_sentence(change: dict[str, object], sentence: str) -> None:
    """A wrong name or shape names what was given and what is wanted."""
    given = {"q": Q, "k": Q, "v": Q, "offsets": OFFSETS, "max_len": 8, "alpha": 1.0, **change}
    with pytest.raises(ModelError, match=sentence):
        attention(**given)  # type: ignore[arg-type]
