"""`hstu scenarios` and `hstu replay --scenario`: what they print, and how they refuse."""

import re
from pathlib import Path

import pytest

from sim.errors import SimError
from sim.scenarios.files import preset_names
from sim.scenarios.scenario import load_scenario
from sim.scenarios.terminal import BLOCKS
from stream.errors import HstuError
from tests.sim.replay.commands import hstu as replay
from tests.sim.scenarios.commands import SMALL, hstu


def test_the_list_says_what_drifts() -> None:
    """Every preset with its size."""
    output = hstu("scenarios", "list")
    for name in preset_names():
        assert re.search(rf"^ ?{name} .*(clicks|slates|records of 128) *$", output, re.MULTILINE), name
    assert "turnover, slates, position, closed loop" in output


@pytest.mark.parametrize("name", preset_names())
def test_a_scenario_is_explained(name: str) -> None:
    """Its parameters with their meaning, its figures, and a plot that moves."""
    output = hstu("scenarios", "show", name, *SMALL)
    scenario = load_scenario(name)
    assert output.startswith(scenario.title)
    table = "dirichlet" if name == "paper" else "base"
    assert f"[{table}]" in output
    assert "Live items" in output
    moves = any(set(line) >= set(BLOCKS[:1] + BLOCKS[-1:]) for line in output.splitlines())
    assert moves or (name == "bots" and output.count("Stands still.") == 4)
    if name != "paper":
        assert re.search(r"the seer +HR@10 0\.\d{3}", output)
        assert "[slates] the slates shown" in output  # of key events: brackets of texts are no markup
    for table in scenario.drifts()[:-1]:
        assert f"[{table}]" in output or table in ("growth", "closed loop", "shock")


def test_a_scenario_is_replayed_in_one_process(tmp_path: Path) -> None:
    """With its remark, its own settings of the joiner, and all of its events."""
    done = replay(tmp_path, ["--scenario", "closed-loop", "--events", "300", "--seed", "3", "--direct"])
    assert done.returncode == 0, done.stderr
    assert re.search(r"closed-loop: [\d,]+ events from 2023-11-14 on\.", done.stderr)
    assert "in a replay nobody recommends" in done.stderr
    assert "examples" in done.stdout


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--scenario", "grwth"], "There is no scenario 'grwth'; known are bots, closed-loop,"),
        (["--scenario", "growth", "--synthetic", "dirichlet"], "; 2 are given."),
        (["--scenario", "growth", "--user", "u"], "--user belongs to a recorded log; remove it here"),
        (["--scenario", "growth", "--limit", "5"], "--limit belongs to a recorded log; remove it here"),
        (["--scenario", "growth", "--records", "5"], "growth counts events, not records"),
        (["--synthetic", "dirichlet", "--events", "5"], "--events belongs to --scenario; remove it here"),
        (["--scenario", "growth", "--events", "0"], "has events = 0 in table [base], which is refused"),
        (["--scenario", "growth"], "No Kafka is named; give --bootstrap"),
    ],
)
def test_flags_that_make_no_sense_are_refused(tmp_path: Path, flags: list[str], sentence: str) -> None:
    """One sentence, and nothing is made."""
    with pytest.raises((SimError, HstuError)) as error:
        hstu("replay", "--data-dir", str(tmp_path), *flags)
    assert sentence in str(error.value)
    assert not any(tmp_path.iterdir())
