"""Losses for labels that come late, and the order in which the bench of them asks and learns."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from model.fusion.clicks import Clicks
from sim.experiment.feeds import Joined
from sim.scenarios.files import checked
from sim.world.events import WorldStream
from sim.world.world import World
from stream.config import StreamSettings
from stream.example import Example

BENCH = Path(__file__).parents[2] / "bench"
PROBABILITY = st.floats(0.01, 0.99)


def bench(name: str) -> ModuleType:
    """Return a module of bench/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        return importlib.import_module(name)


losses = bench("delayed_losses")
learner = bench("delayed_learner")
stream = bench("delayed_stream")
counts = bench("delayed_counts")


def expected(loss: int, p: float, soon: float, answer: float) -> float:
    """Return the expected slope of an impression's examples; `soon` is the probability of an action until w_e."""
    early = soon if loss in (losses.ES_DFM, losses.BACK) else 0.0  # the others begin with a negative always
    later = p - early
    real = (1 - p) / (1 - early)
    arguments = answer, later, real
    return float(
        early * losses.slope(loss, True, False, *arguments)
        + (1 - early) * losses.slope(loss, False, False, *arguments)
        + later * losses.slope(loss, True, True, *arguments)
    )


@given(PROBABILITY, st.floats(0, 1), PROBABILITY)
def test_es_dfm_has_the_slope_of_final_labels_times_a_constant(p: float, share: float, answer: float) -> None:
    """For any law of delay and any answer: with true p_dp and p_rn, the slope is (1 + p_dp) (f - p)."""
    soon = share * p
    assert expected(losses.ES_DFM, p, soon, answer) == pytest.approx((1 + p - soon) * (answer - p), abs=1e-12)


@given(PROBABILITY, st.floats(0, 1), PROBABILITY)
def test_taking_a_negative_back_has_the_slope_of_final_labels(p: float, share: float, answer: float) -> None:
    """For any law of delay and any answer, without a head."""
    assert expected(losses.BACK, p, share * p, answer) == pytest.approx(answer - p, abs=1e-12)


@given(PROBABILITY, PROBABILITY)
def test_fnw_pulls_to_the_true_probability(p: float, answer: float) -> None:
    """Its slope is (1 - f²) (f - p): 0 at p alone, and of the right sign elsewhere."""
    assert expected(losses.FNW, p, 0.0, answer) == pytest.approx((1 - answer**2) * (answer - p), abs=1e-12)


@given(PROBABILITY)
def test_fnc_calibrates_what_the_unweighted_examples_teach(p: float) -> None:
    """Without weights the slope is 0 at b = p / (1 + p), not at p; b / (1 - b) is p again."""
    b = p / (1 + p)
    assert expected(losses.PLAIN, p, 0.0, b) == pytest.approx(0, abs=1e-12)
    assert abs(expected(losses.PLAIN, p, 0.0, p)) > p**2 / 2
    calibrated = losses.calibrated(np.array([np.log(b / (1 - b))]))
    assert 1 / (1 + np.exp(-calibrated[0])) == pytest.approx(p)


def test_an_answer_of_fnc_has_a_bound() -> None:
    """An odds of 1 or more is no probability."""
    assert losses.calibrated(np.array([0.0, 5.0, 800.0])) == pytest.approx(np.log(99))


def shown(delays_ms: list[int]) -> Any:
    """Return impressions without features, a second apart; a delay of -1 is none."""
    ts = 1000 * np.arange(len(delays_ms))
    acted = np.where(np.array(delays_ms) < 0, stream.NEVER, ts + delays_ms)
    none, one = np.zeros(len(ts), np.int64), np.ones((len(ts), 1))
    return stream.Shown(ts, acted, none, none, 1, none[:, None], one, 1)


@pytest.mark.parametrize("way", learner.WAYS)
def test_each_impression_is_asked_once_and_before_it_is_learnt(way: str) -> None:
    """And steps of the click's head bring a positive for each action in time, but those that come after a window."""
    steps = learner.steps_of(way, shown([300, 5000, -1, 9999, 10_000]), 10_000, 4000)
    asked = [int(np.flatnonzero((steps.head == learner.ASK) & (steps.impression == t))[0]) for t in range(5)]
    assert np.count_nonzero(steps.head == learner.ASK) == 5
    for e in np.flatnonzero(steps.head != learner.ASK):
        assert e > asked[steps.impression[e]]
    click = steps.head == learner.CLICK
    positive = set(steps.impression[click & steps.label].tolist())
    assert positive == ({0} if way == "shorter" else {0, 1, 3})
    assert set(steps.impression[steps.again].tolist()) <= set(steps.impression[click & ~steps.label].tolist())


def test_es_dfm_teaches_its_heads_by_final_labels() -> None:
    """p_dp by all impressions, p_rn by those that have no action at w_e."""
    steps = learner.steps_of("ES-DFM", shown([300, 5000, -1]), 10_000, 4000)
    of = {
        head: dict(zip(steps.impression[steps.head == head].tolist(), steps.label[steps.head == head], strict=True))
        for head in (learner.LATER, learner.REAL)
    }
    assert of[learner.LATER] == {0: False, 1: True, 2: False}
    assert of[learner.REAL] == {1: False, 2: True}


def test_corrected_ways_answer_the_base_rate_of_a_steady_stream() -> None:
    """Four of ten impressions are clicked, half of them late: all but `naive` and `shorter` say so on average."""
    rng = np.random.default_rng(0)
    delays = np.where(rng.random(40_000) < 0.4, rng.integers(1, 8000, 40_000), -1).tolist()
    stream_of = shown(delays)
    mean = {}
    for way in learner.WAYS:
        logits, _ = learner.answers(way, stream_of, learner.steps_of(way, stream_of, 10_000, 4000), 0.05)
        mean[way] = float((1 / (1 + np.exp(-logits[10_000:]))).mean())
    right = np.mean(np.array(delays[10_000:]) >= 0)
    assert mean.pop("naive") == pytest.approx(right / (1 + right), rel=0.08)
    assert mean.pop("shorter") == pytest.approx(right / 2, rel=0.08)
    assert mean == {way: pytest.approx(right, rel=0.08) for way in mean}


WORLD: Any = World(checked({"base": {"events": 60, "users": 4, "items": 30, "categories": 5, "days": 0.1},
    "slates": {"size": 3, "half_lift": 1}, "delay": {"seconds": 500}}, "a small world"))  # fmt: skip


def test_labels_are_those_of_the_joiner() -> None:
    """Of as many impressions as many lead to a click within the window."""
    impressions = stream.shown_in(WORLD)
    scenario = Joined(WorldStream("small", WORLD), StreamSettings(example_tokens=64))
    examples = [entry for entry in scenario.entries() if isinstance(entry, Example)]
    in_time = impressions.acted_ms - impressions.ts_ms < 600_000
    late = (impressions.acted_ms < stream.NEVER) & ~in_time
    assert late.sum() > 5
    assert sum(len(example.labels) for example in examples) == in_time.sum()


def test_the_history_has_the_clicks_that_have_come() -> None:
    """How often an item was clicked on by its user and shown to them, counted anew for each impression."""
    impressions = stream.shown_in(WORLD)
    ts, acted, user, item, _, _, values, _ = impressions
    for t in range(len(ts)):
        same = (user == user[t]) & (item == item[t])
        clicks = (same & (acted < ts[t])).sum()
        views = (same & (ts < ts[t])).sum()
        assert values[t, 3:5] == pytest.approx(np.log1p([clicks, views]))


def test_counts_that_learn_at_once_are_those_of_one_pass() -> None:
    """To ask and to learn in two calls gives the answers of the click probabilities' own test-then-learn."""
    impressions = stream.shown_in(WORLD)
    label = impressions.acted_ms - impressions.ts_ms < 600_000
    whole = Clicks(1, [False])
    whole.grow(int(impressions.item.max()) + 1)
    expected = whole.step(counts.impressions(impressions, label), impressions.ts_ms, learn=True)[0, :, 0]
    assert counts.counted(impressions, impressions.ts_ms, label) == pytest.approx(expected, abs=1e-12)
    assert counts.counted(impressions, impressions.ts_ms + 600_000, label) != pytest.approx(expected, abs=1e-3)
