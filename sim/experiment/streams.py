"""Streams that contestants are compared on: a scenario by its name or file, a data set of a package, or a log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_hexdigest

from sim.dirichlet.stream import DirichletStream
from sim.errors import SimError
from sim.experiment.feeds import Feed, Joined, WholeRecords
from sim.experiment.run import RunSpec, Scalar
from sim.scenarios.files import checked
from sim.scenarios.scenario import PaperScenario, Scenario, load_scenario, scenario_of
from sim.sources.datasets import DATASETS, load_dataset
from sim.sources.log_columns import LogSettings
from sim.sources.open_log import open_log
from sim.sources.recorded_log import RecordedLog
from sim.world.drifts import Moment
from stream.config import StreamSettings

_OF_DATASET: Final = ("limit",)


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream with its seed."""

    key: str
    """Its name with its overrides; the same for all seeds."""
    title: str
    world: str
    """Digest of everything that decides its law."""
    scenario: Scenario | None  # None: what is recorded
    recorded: Callable[[], RecordedLog] | None
    settings: StreamSettings

    @property
    def moments(self) -> list[Moment]:
        """Return its drifts with their times."""
        return self.scenario.moments() if self.scenario else []

    @property
    def closed(self) -> bool:
        """Whether contestants decide what is shown."""
        return self.scenario is not None and self.scenario.closed

    def feed(self) -> Feed:
        """Return its examples and item records."""
        if self.scenario is None:
            assert self.recorded is not None
            return Joined(self.recorded(), self.settings)
        source = self.scenario.source()
        return WholeRecords(source) if isinstance(source, DirichletStream) else Joined(source, self.settings)


def open_stream(
    name: str,
    overrides: Mapping[str, Scalar],
    seed: int,
    joiner: Mapping[str, Any],
    log: Mapping[str, Any] | None = None,
) -> Stream:
    """Return a scenario, a data set or a log as a stream.

    Args:
        name: A scenario's name or file, a data set's name, or the name of the log.
        overrides: The changed keys of the scenario, or the limit of the data set.
        seed: The scenario's seed; in what is recorded it decides the order of rows of one instant.
        joiner: Settings of the joiner.
        log: Files of a log as "log", and the flags of sim/log_flags.py that read them; None or empty: it is no log.

    Raises:
        SimError: There is no such scenario, data set or log, or it has no such key.
    """
    if log:
        return _of_log(name, log, seed, StreamSettings(**joiner))
    changed = "".join(f" {key}={value}" for key, value in overrides.items())
    bracket = f" ({', '.join(f'{key} {value}' for key, value in overrides.items())})" if overrides else ""
    if seeded := [key for key in overrides if key.rpartition(".")[2] == "seed"]:
        raise SimError(f"{seeded[0]} is not varied by itself: --seeds N runs everything with the seeds 0 to N - 1.")
    settings = StreamSettings(**joiner)
    if name in DATASETS:
        for key in overrides:
            if key not in _OF_DATASET:
                raise SimError(f"The data set {name} has no {key}; it knows {', '.join(_OF_DATASET)}.")
        of_log = LogSettings(shuffle_ties=seed, limit=int(overrides["limit"]) if "limit" in overrides else None)
        load = partial(load_dataset, name, of_log)
        return Stream(name + changed, name + bracket, _digest(name, of_log.tag()), None, load, settings)
    scenario = _changed(load_scenario(name), overrides).with_(seed=seed)
    if isinstance(scenario, PaperScenario) and scenario.dirichlet.limit is not None:
        raise SimError(f"{scenario.name} is compared in whole records, so limit does not cut it; use records.")
    fitting = scenario.stream_settings(settings)
    law = _digest(scenario.name, scenario.settings.model_dump_json())
    return Stream(scenario.name + changed, scenario.title + bracket, law, scenario, None, fitting)


def _of_log(name: str, log: Mapping[str, Any], seed: int, settings: StreamSettings) -> Stream:
    load = partial(_read_log, msgspec.json.encode({"shuffle_ties": seed, **log}, order="sorted"))
    return Stream(name, name, load().fingerprint, None, load, settings)


@lru_cache(maxsize=1)
def _read_log(log: bytes) -> RecordedLog:
    """Return a log by its files and flags in JSON; the last one is kept."""
    flags = msgspec.json.decode(log)
    return open_log(flags.pop("log"), flags)


def _digest(*parts: str) -> str:
    return xxh3_64_hexdigest(" ".join(parts).encode())


def _changed(scenario: Scenario, overrides: Mapping[str, Scalar]) -> Scenario:
    """Return the scenario with other values of "table.key", or of a key of the table that all of its kind have."""
    content = scenario.settings.model_dump(exclude_unset=True)
    usual = "dirichlet" if content.get("kind") == "dirichlet" else "base"
    for dotted, value in overrides.items():
        table, _, key = dotted.rpartition(".")
        values = content.setdefault(table or usual, {})
        if not isinstance(values, dict):
            raise SimError(f"{dotted} cannot be changed: [{table}] of scenario {scenario.name} is no single table.")
        values[key] = value
    changes = ", ".join(f"{key} = {value}" for key, value in overrides.items())
    return scenario_of(
        scenario.name, checked(content, f"scenario {scenario.name}" + f" with {changes}" * bool(changes))
    )


def stream_of(spec: RunSpec) -> Stream:
    """Return the stream of a run."""
    return open_stream(spec.scenario, spec.overrides, spec.seed, spec.stream, spec.log)


def feed_of(spec: RunSpec) -> Feed:
    """Return a run's feed. The last feed is cached, because runs on one stream follow one another."""
    alike = msgspec.structs.replace(spec, contestant="", source="", variant="", model={}, train={}, score_at="label")
    return _feed(msgspec.json.encode(alike, order="sorted"))


@lru_cache(maxsize=1)
def _feed(spec: bytes) -> Feed:
    return stream_of(msgspec.json.decode(spec, type=RunSpec)).feed()
