"""The verb `hstu compare`: its flags become a plan, and its exit code says whether it was stopped."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from sim.compare.cli import compare
from sim.compare.plan import Plan
from sim.compare.presets import preset
from sim.config import Settings
from sim.log_flags import with_log_flags


class Context:
    """The context of the main command, with small models."""

    def load(self) -> Settings:
        return Settings.model_validate({"model": {"dim": 8}})


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments with which run_compare was called, in place of calling it; it is stopped with one job."""
    calls: list[tuple[Any, ...]] = []

    def run(*arguments: Any) -> bool:
        calls.append(arguments)
        return bool(arguments[-1] != 1)

    monkeypatch.setattr("sim.compare.command.run_compare", run)
    return calls


def hstu(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(with_log_flags(compare))
    return CliRunner().invoke(app, arguments, obj=Context())


def test_every_flag_reaches_the_plan(compared: list[tuple[Any, ...]]) -> None:
    """Repeated flags are lists; the settings are those of the configuration."""
    what = ["--scenario", "shock", "--scenario", "growth", "--contestant", "silu", "--contestant", "gru"]
    how = ["--vary", "learning_rate=1e-3,1e-2", "--events", "300", "--records", "5", "--seeds", "2", "--jobs", "3"]
    rest = ["--score-at", "request", "--test-share", "0.5", "--no-frozen", "--out", "there"]
    assert hstu(*what, *how, *rest).exit_code == 0
    ((plan, name, out, jobs),) = compared
    assert plan == Plan(
        scenarios=["shock", "growth"],
        contestants=["silu", "gru"],
        seeds=2,
        changes={"records": 5, "events": 300},
        vary={"train.learning_rate": [0.001, 0.01]},
        model={"dim": 8},
        score_at="request",
        test_share=0.5,
        frozen=False,
    )
    assert (name, out, jobs) == ("", Path("there"), 3)


def test_a_log_is_read_by_the_flags_of_a_replay(compared: list[tuple[Any, ...]]) -> None:
    """Only those that were given go into the plan, and so into the identity of its runs."""
    assert hstu("own.csv", "--user", "who", "--limit", "9", "--late-share", "0.3").exit_code == 0
    ((plan, name, _, _),) = compared
    assert (plan.log, plan.late_share, name) == ({"log": ["own.csv"], "user": "who", "limit": 9}, 0.3, "")


def test_a_preset_keeps_what_no_flag_changes(compared: list[tuple[Any, ...]]) -> None:
    """Its name goes along for the report; there is a job for each core."""
    assert hstu("--preset", "map").exit_code == 0
    ((plan, name, out, jobs),) = compared
    assert (plan, name, out) == (preset("map"), "map", Path("hstu-compare"))
    assert jobs >= 1


def test_a_stopped_comparison_ends_as_interrupted(compared: list[tuple[Any, ...]]) -> None:
    """Exit code 130, as after Ctrl-C everywhere."""
    assert hstu("--preset", "paper", "--jobs", "1").exit_code == 130
    assert len(compared) == 1


@pytest.mark.parametrize("flag", ["--records", "--events", "--seeds", "--jobs"])
def test_there_is_at_least_one_of_everything(flag: str, compared: list[tuple[Any, ...]]) -> None:
    """The command line refuses 0 before anything is made."""
    assert hstu("--preset", "paper", flag, "0").exit_code == 2
    assert compared == []
