"""Comparisons by name."""

import pytest

from sim.compare.options import Options, plan_of
from sim.compare.presets import PRESETS, preset
from sim.config import Settings
from sim.errors import SimError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_runnable(name: str) -> None:
    """Every preset names existing contestants, scenarios and settings; the ids of its runs differ."""
    specs = plan_of(Options(preset=name), Settings()).specs()
    assert len({spec.id for spec in specs}) == len(specs) > 3


def test_what_is_not_there_is_refused() -> None:
    """The error lists the names there are."""
    with pytest.raises(
        SimError, match="no preset 'papers'; known are paper, baselines, map, drift, movielens, sequences, ranking"
    ):
        preset("papers")


def test_every_preset_says_what_it_compares() -> None:
    """One sentence; all but the map of the gap have a baseline or a Transformer beside the two HSTUs."""
    for name, (meaning, plan) in PRESETS.items():
        assert meaning.endswith(".")
        assert {"silu", "softmax"} <= set(plan.contestants)
        assert (len(plan.contestants) > 2) == (name != "map")
