import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from model.attention.relative_bias import (
    BIASES,
    Bias,
    FunctionalBias,
    Relations,
    RelativeBias,
    log_gaps,
    next_ms,
    time_buckets,
)
from model.attention.tile_plan import plan_tiles
from tests.model.attention.attention_cases import golden, offsets_of

GENERATOR = torch.Generator().manual_seed(0)
YEAR_MS = 365 * 86_400_000


def test_the_bias_of_a_padded_batch_is_that_of_the_public_reference() -> None:
    """The sum of both tables is its rab wherever a row sees a key, for full and for short sequences."""
    file = golden("research_rel_bias")
    offsets, lengths = file["x_offsets"], file["lengths"].tolist()
    ts_ms = torch.cat([file["timestamps"][b, :n] for b, n in enumerate(lengths)]) * 1000
    plan = plan_tiles(offsets, max_len=file.config["N"], tokens=sum(lengths), heads=2)
    relations = Relations(plan, ts_ms, next_ms(ts_ms, offsets, request_ms=padded_next(file["timestamps"], lengths)))
    table = table_of(file["rab_pos_w"], file["rab_ts_w"])
    checked = 0
    for tile in plan.tiles:
        bias = relations.bias(table, tile)
        for at, b in enumerate(tile.sequences.tolist()):
            seen = tile.visible[0] & (tile.rows[0] < lengths[b])
            wanted = file["rab"][b, tile.rows[0], tile.keys[0]]
            assert torch.equal(bias[at][seen], wanted[seen])
            checked += int(seen.sum())
    assert checked == sum(n * (n + 1) // 2 for n in lengths)


def padded_next(timestamps: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Return the time after each sequence in the reference's padded times; a full sequence repeats its last."""
    return torch.stack([timestamps[b, min(n, timestamps.shape[1] - 1)] for b, n in enumerate(lengths)]) * 1000


def table_of(positions: torch.Tensor, times: torch.Tensor) -> RelativeBias:
    table = RelativeBias((len(positions) + 1) // 2, dtype=positions.dtype, generator=GENERATOR)
    table.load_state_dict({"positions": positions, "times": times})
    return table


@given(st.lists(st.integers(-5 * YEAR_MS, 5 * YEAR_MS), min_size=1, max_size=20))
@settings(deadline=None)
def test_buckets_follow_the_formula(gaps_ms: list[int]) -> None:
    """floor(ln(max(|gap|, 1)) / 0.301), up to rounding at an edge, whichever time is later."""
    base = 1_700_000_000_000
    asked, ts = (torch.tensor([base + g * s for g in gaps_ms]).double() / 1000 for s in (0, 1))
    exact = [math.log(max(abs(g) / 1000, 1)) / 0.301 for g in gaps_ms]
    buckets = time_buckets(asked, ts).tolist()
    assert all(math.floor(e - 1e-5) <= b <= math.floor(e + 1e-5) for e, b in zip(exact, buckets, strict=True))
    assert buckets == time_buckets(ts, asked).tolist()


def test_gaps_below_a_second_and_beyond_the_table_take_the_end_buckets() -> None:
    """Gaps under one second fall into bucket 0; none falls outside the table."""
    asked = torch.tensor([0.0, 0.999, 1.0, 1e30, 2.0**63], dtype=torch.float64)
    assert time_buckets(asked, torch.zeros(1, dtype=torch.float64)).tolist() == [0, 0, 0, 128, 128]


def test_rows_look_back_from_the_next_token_and_the_last_from_the_request() -> None:
    """Without a request time the last row takes its own; empty sequences are skipped."""
    ts, offsets = torch.tensor([10, 20, 30, 40, 50]), offsets_of([3, 0, 2])
    assert next_ms(ts, offsets).tolist() == [20, 30, 30, 50, 50]
    assert next_ms(ts, offsets, request_ms=torch.tensor([33, 99, 77])).tolist() == [20, 30, 33, 50, 77]
    assert ts.tolist() == [10, 20, 30, 40, 50]


def test_candidates_look_back_from_their_own_time() -> None:
    """The history's last row looks back from the first candidate's time, a candidate from its own."""
    ts, offsets = torch.tensor([10, 20, 60, 60, 60, 7]), offsets_of([5, 1])
    assert next_ms(ts, offsets, num_targets=torch.tensor([3, 0])).tolist() == [20, 60, 60, 60, 60, 7]


def test_gradients_of_the_tables_count_every_use() -> None:
    """The gradient of an entry is the sum over the pairs that look it up."""
    table = RelativeBias(4, dtype=torch.float64, generator=GENERATOR)
    steps, buckets = torch.tensor([[[3, 2], [3, 3]]]), torch.tensor([[[0, 5], [5, 5]], [[1, 5], [0, 0]]])
    table(steps, buckets).sum().backward()
    assert table.positions.grad is not None
    assert table.times.grad is not None
    assert table.positions.grad.tolist() == [0, 0, 2, 6, 0, 0, 0]
    assert table.times.grad[[0, 1, 5]].tolist() == [3, 1, 4]


@pytest.mark.parametrize("seed", [0, 1])
def test_tables_start_from_the_generator_alone(seed: int) -> None:
    """Equal generators give equal tables of the size that the paper's code has, near N(0, 0.02)."""
    first, second = (
        RelativeBias(50, dtype=torch.float32, generator=torch.Generator().manual_seed(seed)) for _ in range(2)
    )
    assert torch.equal(first.positions, second.positions)
    assert torch.equal(first.times, second.times)
    assert (first.positions.shape, first.times.shape) == ((99,), (129,))
    assert np.isclose(first.times.std().item(), 0.02, rtol=0.3)


def functional(amplitude: float, scale_s: float, power: float) -> FunctionalBias:
    made = FunctionalBias(4, dtype=torch.float64, generator=GENERATOR)
    with torch.no_grad():
        made.positions.zero_()
        made.amplitude.fill_(amplitude)
        made.log_scale.fill_(math.log(scale_s))
        made.power_logit.fill_(math.log(power / (1 - power)))
    return made


@given(
    st.floats(-9, 9),
    st.floats(0.1, 1e8),
    st.floats(0.01, 0.99),
    st.lists(st.integers(-5 * YEAR_MS, 5 * YEAR_MS), min_size=1, max_size=20),
)
@settings(deadline=None)
def test_the_functional_bias_follows_its_formula(amplitude: float, scale: float, power: float, gaps: list[int]) -> None:
    """amplitude * gamma^(gap^power) with gamma = exp(-scale^-power), gaps below a second count as one."""
    now_s, gaps_s = 1_700_000_000, torch.tensor(gaps).double() / 1000
    measured = log_gaps(now_s + gaps_s, torch.tensor(now_s).double())
    found = functional(amplitude, scale, power)(torch.zeros(1, dtype=torch.int32), measured)
    gamma = math.exp(-(scale**-power))
    wanted = [amplitude * gamma ** (max(abs(gap), 1) ** power) for gap in gaps_s.tolist()]
    assert torch.allclose(found, torch.tensor(wanted, dtype=torch.float64), atol=1e-4)


def test_gradients_of_the_functional_bias_pass_gradcheck() -> None:
    """Amplitude, scale, power and positions have the derivatives of finite differences."""
    made = functional(1.3, 60.0, 0.4)
    steps, gaps = torch.tensor([[[3, 2], [3, 3]]]), torch.tensor([[[0.0, 5], [2, 4]], [[1, 12], [0, 9]]])
    names = [name for name, _ in made.named_parameters()]

    def run(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(made, dict(zip(names, values, strict=True)), (steps, gaps))

    assert torch.autograd.gradcheck(run, tuple(p.detach().clone().requires_grad_() for p in made.parameters()))


@pytest.mark.parametrize("log_scale", [-1e6, 0.0, 1e6])
@pytest.mark.parametrize("logit", [-1e3, 0.0, 1e3])
def test_every_value_of_the_parameters_gives_finite_numbers(log_scale: float, logit: float) -> None:
    """Outputs and gradients stay finite in float32, however large the parameters are."""
    made = FunctionalBias(4, dtype=torch.float32, generator=GENERATOR)
    with torch.no_grad():
        made.log_scale.fill_(log_scale)
        made.power_logit.fill_(logit)
    out = made(torch.zeros(1, 1, 3, dtype=torch.int32), torch.tensor([[[0.0, 10.0, 44.0]]]))
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())


@pytest.mark.parametrize("kind", BIASES.values())
def test_no_bias_depends_on_the_date(kind: type[Bias]) -> None:
    """Only gaps count: all times shifted by a century give the same bias."""
    ts_ms, offsets = torch.tensor([0, 1000, 70_000, 9_000_000, 9_000_500]), offsets_of([5])
    made = kind(5, dtype=torch.float64, generator=GENERATOR)
    plan = plan_tiles(offsets, max_len=5, tokens=5, heads=1)
    biases = [
        Relations(plan, ts_ms + shift, next_ms(ts_ms + shift, offsets), kind).bias(made, plan.tiles[0])
        for shift in (0, 100 * YEAR_MS)
    ]
    assert torch.equal(*biases)
