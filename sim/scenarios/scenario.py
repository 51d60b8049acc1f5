"""A scenario: a name, settings, and what follows from them: the stream, what the joiner needs, when something happens.

Both kinds have one face, so that who replays or compares need not know which it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sim.dirichlet.stream import DirichletSettings, DirichletStream, whole_records
from sim.errors import SimError
from sim.scenarios.files import checked, find, read_settings
from sim.sources.source import Source
from sim.world.closed_loop import ClosedLoop
from sim.world.drifts import Moment
from sim.world.events import WorldStream
from sim.world.settings import DirichletScenario, ScenarioSettings, WorldSettings
from sim.world.upper_bound import Seer, foresee
from sim.world.world import World
from stream.config import StreamSettings

SESSIONS: Final = 3  # mean visits, in events and in time, for which targets are gathered


_S = TypeVar("_S", bound="Scenario")


@dataclass(frozen=True)
class Scenario(ABC):
    """One scenario; equal settings are equal streams."""

    name: str
    settings: ScenarioSettings

    @property
    def title(self) -> str:
        """A line."""
        return self.settings.title or self.name

    @property
    def description(self) -> str:
        """What it shows."""
        return self.settings.description

    @property
    @abstractmethod
    def seed(self) -> int:
        """Of its chance."""

    @property
    def closed(self) -> bool:
        """Whether a recommender can decide what is shown."""
        return False

    @property
    def remark(self) -> str:
        """A sentence that whoever replays it should read; mostly empty."""
        return ""

    @abstractmethod
    def drifts(self) -> list[str]:
        """Say what drifts."""

    @abstractmethod
    def with_(self, *, seed: int | None = None, events: int | None = None, records: int | None = None) -> Self:
        """Give the same scenario with another seed or size.

        Raises:
            SimError: the size is not one.
        """

    @abstractmethod
    def source(self) -> Source:
        """Give the stream."""

    @abstractmethod
    def stream_settings(self, settings: StreamSettings) -> StreamSettings:
        """Give the settings under which a joiner makes fitting examples of the stream."""

    def moments(self) -> list[Moment]:
        """Give what happens when."""
        return []

    def seer(self) -> Seer | None:
        """Give what someone reaches who knows all that is hidden; None where that is not known."""
        return None

    def loop(self) -> ClosedLoop:
        """Give the world as an environment that answers to slates.

        Raises:
            SimError: the scenario is no closed loop.
        """
        raise SimError(f"The scenario {self.name} is no closed loop; that takes closed = true in its table [slates].")


@dataclass(frozen=True)
class PaperScenario(Scenario):
    """The stream of sim/dirichlet/stream.py; its bound is sim/dirichlet/oracle.py's."""

    settings: DirichletScenario

    @property
    def dirichlet(self) -> DirichletSettings:
        """Settings of the generator."""
        return DirichletSettings(**self.settings.dirichlet.model_dump())

    @property
    def seed(self) -> int:
        """Of its chance."""
        return self.dirichlet.seed

    def drifts(self) -> list[str]:
        """Say what drifts."""
        return ["growth"] if self.dirichlet.initial < 1 else []

    def with_(self, *, seed: int | None = None, events: int | None = None, records: int | None = None) -> Self:
        """Give it with another seed or size; events are rounded to whole records."""
        if events is not None and records is None:
            records = max(1, round(events / self.dirichlet.length))
        return _changed(self, "dirichlet", {"seed": seed, "records": records})

    def source(self) -> DirichletStream:
        """Give the stream."""
        stream = DirichletStream(self.dirichlet)
        stream.name = self.name
        return stream

    def stream_settings(self, settings: StreamSettings) -> StreamSettings:
        """Let each record leave as one example."""
        return whole_records(settings, self.dirichlet.length)


@dataclass(frozen=True)
class WorldScenario(Scenario):
    """A world that drifts."""

    settings: WorldSettings

    @cached_property
    def world(self) -> World:
        """The world, with all that is hidden."""
        return World(self.settings)

    @property
    def seed(self) -> int:
        """Of its chance."""
        return self.settings.base.seed

    @property
    def closed(self) -> bool:
        """Whether a recommender can decide what is shown."""
        return self.settings.slates is not None and self.settings.slates.closed

    @property
    def remark(self) -> str:
        """What a replay of a closed loop is."""
        if not self.closed or self.settings.slates is None:
            return ""
        return (
            f"{self.name} is a closed loop, but in a replay nobody recommends: the slates are those of its logging "
            f"policy, {self.settings.slates.policy}."
        )

    def drifts(self) -> list[str]:
        """Say what drifts."""
        return self.settings.tables() + ["closed loop"] * self.closed

    def with_(self, *, seed: int | None = None, events: int | None = None, records: int | None = None) -> Self:
        """Give it with another seed or number of events."""
        if records is not None:
            raise SimError(f"The scenario {self.name} counts events, not records; give it a number of events.")
        return _changed(self, "base", {"seed": seed, "events": events})

    def source(self) -> WorldStream:
        """Give the stream."""
        return WorldStream(self.name, self.world)

    def stream_settings(self, settings: StreamSettings) -> StreamSettings:
        """Let the targets of one visit leave together, and do what table [stream] says."""
        base, slates = self.settings.base, self.settings.slates
        targets = round(SESSIONS * base.session * (slates.size if slates else 1))
        fitting: dict[str, Any] = {
            "gather_targets": max(settings.gather_targets, targets),
            "gather_s": max(settings.gather_s, SESSIONS * base.session * base.session_gap_s),
        }
        return settings.model_copy(update=fitting | self.settings.stream.model_dump(exclude_none=True))

    def moments(self) -> list[Moment]:
        """Return what happens when: shocks, new tastes and whatever else the drifts name."""
        days = self.settings.base.days
        found = [moment for number, drift in self.settings.drifts() for moment in drift.moments(days, number)]
        return sorted(found, key=lambda moment: moment.share)

    def seer(self) -> Seer:
        """Give what someone reaches who knows all that is hidden."""
        return foresee(self.world)

    def loop(self) -> ClosedLoop:
        """Give the world as an environment that answers to slates."""
        return ClosedLoop(self.world) if self.closed else super().loop()


def _changed(scenario: _S, table: str, changes: Mapping[str, Any]) -> _S:
    given = {key: value for key, value in changes.items() if value is not None}
    content = scenario.settings.model_dump(exclude_unset=True)
    content[table] = {**content.get(table, {}), **given}
    settings = checked(content, f"scenario {scenario.name}")
    return type(scenario)(scenario.name, settings)


def load_scenario(name_or_path: str | Path) -> Scenario:
    """Open a preset by its name, or a file.

    Raises:
        SimError: there is no such scenario, or its file says what cannot be.
    """
    path = find(name_or_path)
    return scenario_of(path.stem, read_settings(path))


def scenario_of(name: str, settings: ScenarioSettings) -> Scenario:
    """Give the scenario of settings."""
    if isinstance(settings, WorldSettings):
        return WorldScenario(name, settings)
    return PaperScenario(name, settings)
