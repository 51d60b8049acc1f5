"""Plans: from options to runs."""

from pathlib import Path

import pytest

from sim.compare.options import Options, plan_of
from sim.compare.plan import Plan, parse_scalar, parse_vary
from sim.config import Settings
from sim.errors import SimError


def test_everything_is_crossed() -> None:
    """Streams × seeds × neural contestants × values; baselines and the oracle once a stream and seed."""
    plan = Plan(
        scenarios=("paper", "shock"),
        contestants=("silu", "softmax", "popularity"),
        seeds=2,
        vary={"train.learning_rate": (1e-3, 1e-2), "model.dim": (8, 16, 32)},
    )
    specs = plan.specs()
    assert len(specs) == 2 * 2 * (2 * 6 + 1 + 1)
    assert {spec.variant for spec in specs if spec.contestant == "silu"} == {
        f"learning_rate={lr} dim={dim}" for lr in (0.001, 0.01) for dim in (8, 16, 32)
    }


def test_scenarios_are_varied_too() -> None:
    """Keys that are no setting of model or training belong to the scenario; each value makes its own stream."""
    options = Options(preset="paper", contestants=("silu",), vary=("initial=0.2,1.0",), records=100)
    specs = plan_of(options, Settings()).specs()
    assert {(spec.overrides["initial"], spec.overrides["records"]) for spec in specs} == {(0.2, 100), (1.0, 100)}


def test_what_makes_a_contestant_is_not_varied() -> None:
    """A contestant's fixed settings win over the configuration, and are not varied."""
    settings = Settings.model_validate({"model": {"encoder": "gru"}, "train": {"seed": 7}})
    options = Options(scenarios=("growth",), contestants=("silu", "gru"), vary=("bias=none,bucketed",))
    specs = [spec for spec in plan_of(options, settings).specs() if spec.contestant != "oracle"]
    found = [(spec.contestant, spec.variant, spec.model["encoder"], spec.model["bias"]) for spec in specs]
    assert found == [
        ("silu", "bias=none", "hstu", "none"),
        ("silu", "bias=bucketed", "hstu", "bucketed"),
        ("gru", "", "gru", "none"),
    ]
    assert not any("seed" in spec.train for spec in specs)


def test_an_edited_scenario_is_another_stream(tmp_path: Path) -> None:
    """After an edit of the scenario's file its runs have other ids."""
    path, ids = tmp_path / "mine.toml", []
    for items in (100, 100, 200):
        path.write_text(f"[base]\nevents = 500\nusers = 20\nitems = {items}\n")
        plan = Plan(scenarios=(str(path),), contestants=("silu",))
        ids.append([spec.id for spec in plan.specs()])
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])


def test_a_run_named_twice_is_one_run() -> None:
    """Scenarios and contestants may repeat."""
    once = Plan(scenarios=("growth",), contestants=("silu",)).specs()
    assert Plan(scenarios=("growth", "growth"), contestants=("silu", "silu")).specs() == once


def test_there_is_no_upper_bound_without_seen_items() -> None:
    """The oracle counts repeated items, so it is no bound where those are excluded."""
    options = Options(preset="paper", vary=("exclude_seen=true",))
    assert {spec.contestant for spec in plan_of(options, Settings()).specs()} == {"silu", "softmax", "transformer"}


def test_values_are_numbers_where_they_can_be() -> None:
    """Integers, floats, true and false; anything else is a text."""
    assert [parse_scalar(text) for text in ("3", "1e-3", "true", "none")] == [3, 0.001, True, "none"]
    assert parse_vary("learning_rate=1e-3,3e-3") == ("train.learning_rate", [0.001, 0.003])
    assert parse_vary("dim=8") == ("model.dim", [8])
    assert parse_vary("alpha_high=5") == ("scenario.alpha_high", [5])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (Options(preset="paper", contestants=("bert",)), "no contestant 'bert'; known are silu"),
        (Options(preset="paper", vary=("dim",)), "'dim' is not of the form"),
        (Options(preset="paper", vary=("dim=9",)), r"dim 9 is not a multiple of heads 2"),
        (Options(preset="paper", vary=("learning_rate=-1",)), "train.learning_rate = -1 is refused"),
        (Options(preset="paper", vary=("lenght=3",)), "has the key 'lenght' in table"),
        (Options(preset="paper", vary=("seed=1,2",)), "--seeds N runs everything with the seeds 0 to N - 1"),
        (Options(preset="paper", vary=("scenario.seed=1,2",)), "--seeds N runs everything"),
        (Options(preset="paper", vary=("limit=256",)), "limit does not cut it; use records"),
        (Options(preset="paper", vary=("batch_examples=4,8",)), "would be tested on other targets"),
        (Options(preset="movielens", vary=("negative_actions=a",)), "decides which actions are targets"),
        (
            Options(preset="paper", contestants=("silu",), vary=("attention=silu,softmax",)),
            "None of silu has a model.att",
        ),
        (Options(preset="paper", vary=("max_len=64",)), "max_len = 64 is less than the 128 tokens"),
        (Options(preset="drift", scenarios=("closed-loop",), score_at="request"), "regret is measured and nothing is"),
        (Options(preset="drift", scenarios=("closed-loop",), vary=("exclude_seen=true",)), "regret is measured"),
        (Options(preset="movielens", records=5), "The data set movielens has no records; it knows limit"),
        (Options(scenarios=("nowhere",), contestants=("silu",)), "no scenario 'nowhere'"),
    ],
)
def test_what_is_not_there_is_refused(options: Options, sentence: str) -> None:
    """The error comes before anything runs."""
    with pytest.raises(SimError, match=sentence):
        plan_of(options, Settings()).specs()
