from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from model.attention import tile_plan
from model.attention.activations import ACTIVATIONS, activation_named
from model.attention.reference import attention as reference
from model.attention.tile_plan import Tile, plan_candidates
from model.attention.tiled import attend_candidates
from tests.model.attention.attention_cases import Case, cases, close, golden, offsets_of, tiled_attention
from tests.strategies import tries

PATHS = [tiled_attention, reference]


def gradients(output: Tensor, inputs: list[Tensor], seed: int = 0) -> list[Tensor]:
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return list(torch.autograd.grad((output * cotangent.to(output.dtype)).sum(), inputs))


def test_candidates_in_one_pass_equal_the_public_reference_with_cached_keys() -> None:
    """Candidates together give the same as one by one on the cached keys of the history."""
    file = golden("mha_cached_delta")
    options = {"max_len": file.config["N"], "alpha": file.config["alpha"], "num_targets": file["num_targets"]}
    out = tiled_attention(file["q_full"], file["k"], file["v"], file["seq_offsets"], **options)
    ends = file["seq_offsets"][1:].tolist()
    last = torch.cat([out[end - file.config["delta"] : end] for end in ends])
    assert close([out, last], [file["out_full"], file["out"]], 1e-10)


@given(cases())
@settings(max_examples=tries(120), deadline=None)
def test_tiles_agree_with_loops_over_every_row(case: Case) -> None:
    """For any lengths, candidates, window, bias, activation and tiles, outputs and gradients are those of the loops."""
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
    assert torch.allclose(case.run(tiled_attention, single).double(), case.run(reference, double), atol=1e-5)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("history", "candidates"), [(1, 1), (7, 1), (20, 50)])
def test_candidates_on_known_keys_equal_one_sequence(activation: str, history: int, candidates: int) -> None:
    """Candidates of one place and time after a history whose keys and values are given, also in several parts."""
    generator, tokens = torch.Generator().manual_seed(history), history + candidates
    q, k, v = (torch.randn(tokens, 2, d, generator=generator, dtype=torch.float64) for d in (5, 5, 3))
    bias_k = torch.randn(history + 1, generator=generator, dtype=torch.float64)
    targets, max_len = torch.tensor([candidates]), history + 1
    bias = lambda tile: bias_k[tile.keys.clamp(max=history)].expand(1, tile.rows.shape[1], -1)  # noqa: E731
    options = {"max_len": max_len, "alpha": 0.7, "activation": activation, "num_targets": targets, "bias": bias}
    wanted = tiled_attention(q, k, v, offsets_of([tokens]), **options)[history:]  # type: ignore[arg-type]
    plan = plan_candidates(history, max_len)
    prepared = activation_named(activation)(plan, torch.float64)
    own, known = [x[history:] for x in (q, k, v)], [x[:history] for x in (k, v)]
    with patch.dict(tile_plan.AREA, {"cpu": 3 * max_len}):
        found = attend_candidates(*own, *known, plan, 0.7, prepared, bias_k[None, None])
    assert close([found], [wanted], 1e-10)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [1], [0, 1, 0]])
def test_empty_batches_and_sequences_give_empty_outputs_with_gradients(lengths: list[int]) -> None:
    """No sequence, only empty ones, one token: the output has a row per token, and backward runs."""
    tokens = sum(lengths)
    q, k, v = (torch.ones(tokens, 2, d, requires_grad=True) for d in (3, 3, 2))
    out = tiled_attention(q, k, v, offsets_of(lengths), max_len=4, alpha=1.0)
    out.sum().backward()
    assert out.shape == v.shape
    assert q.grad is not None
    assert k.grad is not None
    assert v.grad is not None


def test_a_bias_may_be_a_function_of_the_tile() -> None:
    """A function that looks up the same numbers gives the same output, and is given one tile at a time."""
    options = {"activation": "silu", "alpha": 1.0, "max_len": 12, "num_targets": torch.tensor([4, 0]), "window": 0}
    case = Case([12, 5], [4, 0], 2, 4, 4, options, True, 5, 3, 20)
    q, k, v, table = case.inputs()
    seen = []

    def lookup(tile: Tile) -> Tensor:
        seen.append(tile)
        return table[tile.sequences[:, None, None], tile.rows, tile.keys]

    assert torch.equal(case.run(tiled_attention, [q, k, v, lookup]), case.run(tiled_attention, [q, k, v, table]))
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
        out = case.run(tiled_attention, inputs)
        runs.append([out, *gradients(out, inputs)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
