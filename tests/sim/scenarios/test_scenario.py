"""Scenarios: what a preset says, which settings fit to it, its moments, and changes of size and seed."""

import pytest

from sim.scenarios.files import PRESETS, preset_names
from sim.scenarios.scenario import load_scenario
from stream.config import StreamSettings
from tests.sim.world.worlds import scenario


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_teaches(name: str) -> None:
    """Its file is short, commented, and says what it is."""
    scenario = load_scenario(name)
    lines = (PRESETS / f"{name}.toml").read_text().splitlines()
    assert 10 <= len(lines) <= 40
    assert any("#" in line for line in lines)
    assert scenario.settings.title
    assert len(scenario.description) > 80
    assert scenario.drifts()


def test_the_joiner_gets_fitting_settings() -> None:
    """A visit's targets leave together; table [stream] has the last word; larger settings stay."""
    own = {"action_window_s": 900, "example_tokens": 99}
    made = scenario(base={"session": 10.0, "session_gap_s": 60.0}, stream=own)
    fitting = made.stream_settings(StreamSettings(gather_targets=5))
    assert (fitting.gather_targets, fitting.gather_s) == (30, 1800)
    assert (fitting.action_window_s, fitting.example_tokens) == (900, 99)
    assert made.stream_settings(StreamSettings(gather_targets=500)).gather_targets == 500
    paper = load_scenario("paper").stream_settings(StreamSettings())
    assert (paper.gather_targets, paper.gather_s) == (128, 128)


def test_moments_are_where_something_happens() -> None:
    """Shocks until three half-lives later, and each new taste; in shares of the time."""
    made = scenario(shock=[{"at_d": 2, "half_life_d": 0.5}, {"at_d": 9, "half_life_d": 5}], rotation={"period_d": 5})
    found = [(name, round(share, 6), round(until, 6)) for name, share, until in made.moments()]
    assert found == [("shock 1", 0.2, 0.35), ("taste 2", 0.5, 1.0), ("shock 2", 0.9, 1.0)]
    assert load_scenario("growth").moments() == []


def test_a_size_and_a_seed_can_be_changed() -> None:
    """Records of the paper's stream follow from events; a world has no records."""
    paper = load_scenario("paper")
    assert len(paper.with_(events=1_000).source()) == 8 * 128
    assert len(paper.with_(records=3, seed=5).source()) == 3 * 128
    assert paper.with_(seed=5).seed == 5
    assert len(load_scenario("bots").with_(events=77).source()) == 77
    with pytest.raises(Exception, match="bots counts events, not records"):
        load_scenario("bots").with_(records=5)
    with pytest.raises(Exception, match=r"scenario bots has events = 0 in table \[base\], which is refused"):
        load_scenario("bots").with_(events=0)
