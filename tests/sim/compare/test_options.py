"""From the options of `hstu compare` to a plan."""

import pytest

from sim.compare.options import Options, plan_of
from sim.compare.presets import preset
from sim.config import Settings
from sim.errors import SimError


def test_what_a_preset_fixes_can_be_changed() -> None:
    """An option that is not given keeps the preset's value."""
    for given, frozen in ((None, False), (True, True), (False, False)):
        options = Options(preset="map", frozen=given)
        assert {spec.frozen for spec in plan_of(options, Settings()).specs() if spec.contestant == "silu"} == {frozen}


def test_other_scenarios_leave_a_preset_s_own_sizes() -> None:
    """`records` belongs to the paper's stream; another scenario in its place has no such key."""
    specs = plan_of(Options(preset="paper", scenarios=("growth",)), Settings()).specs()
    assert {spec.scenario for spec in specs} == {"growth"}
    assert not any(spec.overrides for spec in specs)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (Options(), "Name a LOG, a --preset, or at least one --scenario and one --contestant"),
        (Options(preset="papers"), "no preset 'papers'; known are paper"),
        (Options(preset="paper", score_at="click"), "neither label nor request"),
        (Options(preset="paper", test_share=0.0), "does not lie in"),
        (Options(preset="paper", test_share=1.1), r"--test-share 1\.1 does not lie in \(0, 1\]"),
        (Options(preset="paper", late_share=0.0), r"--late-share 0\.0 does not lie in \[0\.01, 1\]"),
        (Options(scenarios=("growth",)), "Name a LOG, a --preset, or at least one --scenario and one --contestant"),
        (Options(preset="paper", log_flags={"rating_as": "action"}), "--rating-as says how a LOG is read"),
        (Options(preset="paper", log_flags={"read_as": "mind"}), "--as says how a LOG is read"),
        (Options(preset="paper", log=("x.csv",)), "compared by itself; remove --preset"),
        (Options(scenarios=("growth",), log=("x.csv",)), "compared by itself; remove --scenario"),
        (Options(events=5, log=("x.csv",)), "compared by itself; remove --events"),
    ],
)
def test_what_is_not_there_is_refused(options: Options, sentence: str) -> None:
    """The error comes before anything runs."""
    with pytest.raises(SimError, match=sentence):
        plan_of(options, Settings())


def test_without_a_preset_the_configuration_decides() -> None:
    """Of its tables, what differs from the defaults; a preset has its own and takes nothing of the configuration."""
    settings = Settings.model_validate({"model": {"dim": 8}, "train": {"negatives": 16}, "stream": {"gather_s": 5}})
    plan = plan_of(Options(scenarios=("growth",), contestants=("silu",)), settings)
    assert (plan.model, plan.train, plan.stream) == ({"dim": 8}, {"negatives": 16}, {"gather_s": 5.0})
    assert plan_of(Options(preset="paper"), settings) == preset("paper")


def test_variations_are_added_to_those_of_the_preset() -> None:
    """A key that the preset varies gets the values given; sizes change all scenarios."""
    options = Options(preset="map", vary=("zipf=2", "dim=8,16"), records=50, seeds=1, test_share=1.0)
    plan, before = plan_of(options, Settings()), preset("map")
    assert plan.vary == {**before.vary, "scenario.zipf": [2], "model.dim": [8, 16]}
    assert plan.changes == {**before.changes, "records": 50}
    assert (plan.seeds, plan.test_share) == (1, 1.0)


def test_what_is_named_takes_the_place_of_a_log_s_contestants() -> None:
    """Contestants, seeds and shares are chosen as in any comparison."""
    options = Options(log=("x.csv",), log_flags={"limit": 5}, contestants=("stack",), seeds=2, late_share=0.2)
    plan = plan_of(options, Settings())
    assert (plan.scenarios, plan.contestants, plan.seeds, plan.late_share) == (["x.csv"], ("stack",), 2, 0.2)
    assert plan.log == {"log": ["x.csv"], "limit": 5}
