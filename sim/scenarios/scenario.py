"""A scenario: a name and settings, from which follow the stream, the joiner's settings and the moments of drifts.

Both kinds have one interface, so that a replay or comparison need not know which kind it has.
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

SESSIONS: Final = 3  # mean lengths of visits, in events and in time, for which targets are gathered


_S = TypeVar("_S", bound="Scenario")


@dataclass(frozen=True)
class Scenario(ABC):
    """One scenario; equal settings make equal streams."""

    name: str
    settings: ScenarioSettings

    @property
    def title(self) -> str:
        """Its title in one line."""
        return self.settings.title or self.name

    @property
    def description(self) -> str:
        """What the scenario shows, in a few sentences."""
        return self.settings.description

    @property
    @abstractmethod
    def seed(self) -> int:
        """Seed of its random numbers."""

    @property
    def closed(self) -> bool:
        """Whether a recommender can decide what is shown."""
        return False

    @property
    def remark(self) -> str:
        """A sentence that is printed before a replay; mostly empty."""
        return ""

    @abstractmethod
    def drifts(self) -> list[str]:
        """Return what drifts, in the order of the tables."""

    @abstractmethod
    def with_(self, *, seed: int | None = None, events: int | None = None, records: int | None = None) -> Self:
        """Return the same scenario with another seed or size.

        Raises:
            SimError: The scenario cannot have this size.
        """

    @abstractmethod
    def source(self) -> Source:
        """Return the stream."""

    @abstractmethod
    def stream_settings(self, settings: StreamSettings) -> StreamSettings:
        """Return the settings under which a joiner makes fitting examples of the stream."""

    def moments(self) -> list[Moment]:
        """Return what happens when."""
        return []

    def seer(self) -> Seer | None:
        """Return the upper bound (sim/world/upper_bound.py); None if there is none."""
        return None

    def loop(self) -> ClosedLoop:
        """Return the world as an environment that responds to slates.

        Raises:
            SimError: The scenario is no closed loop.
        """
        raise SimError(f"The scenario {self.name} is no closed loop; that takes closed = true in its table [slates].")


@dataclass(frozen=True)
class PaperScenario(Scenario):
    """The stream of sim/dirichlet/stream.py; its upper bound is the oracle (sim/dirichlet/oracle.py)."""

    settings: DirichletScenario

    @property
    def dirichlet(self) -> DirichletSettings:
        """Settings of the generator."""
        return DirichletSettings(**self.settings.dirichlet.model_dump())

    @property
    def seed(self) -> int:
        """Seed of its random numbers."""
        return self.dirichlet.seed

    def drifts(self) -> list[str]:
        """Return what drifts, in the order of the tables."""
        return ["growth"] if self.dirichlet.initial < 1 else []

    def with_(self, *, seed: int | None = None, events: int | None = None, records: int | None = None) -> Self:
        """Return the scenario with another seed or size; events are rounded to whole records."""
        if events is not None and records is None:
            records = max(1, round(events / self.dirichlet.length))
        return _changed(self, "dirichlet", {"seed": seed, "records": records})

    def source(self) -> DirichletStream:
        """Return the stream."""
        stream = DirichletStream(self.dirichlet)
        stream.name = self.name
        return stream

    def stream_settings(self, settings: StreamSettings) -> StreamSettings:
        """Return settings by which each record leaves as one example."""
        return whole_records(settings, self.dirichlet.length)


@dataclass(frozen=True)
class WorldScenario(Scenario):
    """A drifting world."""

    settings: WorldSettings

    @cached_property
    def world(self) -> World:
        """The world, with all that is hidden."""
        return World(self.settings)

    @property
    def seed(self) -> int:
        """Seed of its random numbers."""
        return self.settings.base.seed

    @property
    def closed(self) -> bool:
        """Whether a recommender can decide what is shown."""
        return self.settings.slates is not None and self.settings.slates.closed

    @property
    def remark(self) -> str:
        """A sentence on what a replay of a closed loop is."""
        if not self.closed or self.settings.slates is None:
            return ""
        return (
            f"{self.name} is a closed loop, but in a replay nobody recommends: the slates are those of its logging "
            f"policy, {self.settings.slates.policy}."
        )

    def drifts(self) -> list[str]:
        """Return what drifts, in the order of the tables."""
        return self.settings.tables() + ["closed loop"] * self.closed

    def with_(self, *, seed: int | None = None, events: int | None = None, records: int | None = None) -> Self:
        """Return the scenario with another seed or number of events."""
        if records is not None:
            raise SimError(f"The scenario {self.name} counts events, not records; give it a number of events.")
        return _changed(self, "base", {"seed": seed, "events": events})

    def source(self) -> WorldStream:
        """Return the stream."""
        return WorldStream(self.name, self.world)

    def stream_settings(self, settings: StreamSettings) -> StreamSettings:
        """Return settings by which the targets of one visit leave together; table [stream] has the last word."""
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
        """Return the upper bound."""
        return foresee(self.world)

    def loop(self) -> ClosedLoop:
        """Return the world as an environment that responds to slates."""
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
        SimError: There is no such scenario, or its file has a mistake.
    """
    path = find(name_or_path)
    return scenario_of(path.stem, read_settings(path))


def scenario_of(name: str, settings: ScenarioSettings) -> Scenario:
    """Return the scenario of settings."""
    if isinstance(settings, WorldSettings):
        return WorldScenario(name, settings)
    return PaperScenario(name, settings)
