"""A new kind of drift: users who leave and come back, as in the guide of docs/simulator.md."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from sim.errors import SimError
from sim.scenarios.curves import drawings
from sim.scenarios.facts import parameters
from sim.scenarios.files import KINDS
from sim.scenarios.scenario import WorldScenario, load_scenario
from sim.world.base import Positive
from sim.world.drifts import DRIFTS
from sim.world.drifts.drift import Drift, DriftingWorld, DriftLaw, Floats, Moment
from sim.world.rng import rng_named
from sim.world.settings import with_drifts
from tests.sim.world.worlds import scenario

# What follows is all of the file that a new kind of drift is. -----------------------------------------------------


class Leave(Drift):
    """Some users leave on a day and come back on another."""

    share: float = Field(0.5, gt=0, le=1)
    """Share of the users who leave."""
    at_d: float = Field(10.0, ge=0)
    """Day on which they leave."""
    away_d: Positive = 5.0
    """Days after which they come back."""

    def law(self, world: DriftingWorld, number: int) -> DriftLaw:
        return LeaveLaw(self, world)

    def moments(self, days: float, number: int) -> list[Moment]:
        return [Moment("away", self.at_d / days, min(1.0, (self.at_d + self.away_d) / days))]

    def misfits(self, base: object, number: int) -> list[str]:
        return ["[leave] takes at_d from 1 on"] if self.at_d < 1 else []


class LeaveLaw(DriftLaw):
    """Presence 0 in [at_d, at_d + away_d) for the users drawn."""

    def __init__(self, leave: Leave, world: DriftingWorld) -> None:
        self._leave = leave
        users = world.base.users
        leavers = rng_named(world.base.seed, "leave").permutation(users)[: round(leave.share * users)]
        self.leaves_U = np.isin(np.arange(users), leavers)

    def presence(self, users_N: NDArray[np.int64], day_N: Floats) -> Floats:
        away_N = (day_N >= self._leave.at_d) & (day_N < self._leave.at_d + self._leave.away_d)
        return np.where(self.leaves_U[users_N] & away_N, 0.0, 1.0)


# ------------------------------------------------------------------------------------------------------------------

FILE = """
title = "Half of the users are on holiday"
[base]
events = 20_000
users = 200
session = 1
activity = 0
[leave]
share = 0.5
at_d = 12
away_d = 6
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorldScenario:
    """The scenario of FILE; registering the class is what its place in drifts/ would do."""
    monkeypatch.setitem(KINDS, "world", with_drifts({"leave": Leave}))
    (tmp_path / "holiday.toml").write_text(FILE)
    opened = load_scenario(tmp_path / "holiday.toml")
    assert isinstance(opened, WorldScenario)
    return opened


def test_users_leave_and_come_back(made: WorldScenario) -> None:
    """Nobody of them comes meanwhile, the others come twice as often, and before and after nothing differs."""
    world = made.world
    (law,) = world.laws
    assert isinstance(law, LeaveLaw)
    day_R = (world.visits.ts_ms - world.visits.ts_ms[0]) / 86_400_000
    leaver_R = law.leaves_U[world.visits.users]
    shares = [
        leaver_R[(day_R >= first) & (day_R < stop)].mean() for first, stop in ((0, 11.9), (12.1, 17.9), (18.1, 30))
    ]
    assert shares == pytest.approx([0.5, 0.0, 0.5], abs=0.02)
    assert len(day_R) == 20_000
    plain = scenario(base=made.settings.base.model_dump()).world.visits
    same_R = (day_R < 11.9) | (day_R > 18.1)
    assert (world.visits.ts_ms == plain.ts_ms).all()
    assert (world.visits.users[same_R] == plain.users[same_R]).all()


def test_a_new_drift_is_known_everywhere(made: WorldScenario) -> None:
    """In what drifts, in the moments, parameters and plots, with another seed, and as another stream."""
    assert made.drifts() == ["leave"]
    assert made.moments() == [Moment("away", 0.4, 0.6)]
    assert [one.key for one in parameters(made) if one.table == "leave"] == ["share", "at_d", "away_d"]
    drawn = {drawing.title: drawing for drawing in drawings(made.with_(events=2_000))}
    present = drawn["Users who are there"].curves[0].y
    assert (round(present.max()), round(present.min())) == (100, 50)
    assert made.with_(seed=1).seed == 1
    assert made.source().fingerprint != made.with_(seed=1).source().fingerprint


def test_a_table_that_is_absent_changes_no_fingerprint(made: WorldScenario, tmp_path: Path) -> None:
    """So that a new kind of drift keeps results of older scenarios comparable."""
    (tmp_path / "plain.toml").write_text(FILE[: FILE.index("[leave]")])
    without = load_scenario(tmp_path / "plain.toml")
    assert "leave" in type(without.settings).model_fields
    content = without.settings.model_dump(exclude_unset=True)
    assert (
        without.source().fingerprint
        == WorldScenario("plain", with_drifts({}).model_validate(content)).source().fingerprint
    )
    assert made.source().fingerprint != without.source().fingerprint


def test_what_does_not_fit_is_a_sentence(made: WorldScenario, tmp_path: Path) -> None:
    """Keys and values by their names, and what the drift itself refuses."""
    for change, sentence in {"at_d = 0": r"takes at_d from 1 on", "when = 3": r"key 'when' in table \[leave\]"}.items():
        (tmp_path / "wrong.toml").write_text(FILE.replace("at_d = 12", change))
        with pytest.raises(SimError, match=sentence):
            load_scenario(tmp_path / "wrong.toml")


def test_all_drifts_of_the_folder_are_found() -> None:
    """By the names of their tables."""
    assert DRIFTS.keys() >= {"shock", "rotation", "season"}
    assert all(drift.__doc__ for drift in DRIFTS.values())
