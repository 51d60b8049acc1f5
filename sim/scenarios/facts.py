"""Facts about a scenario: its parameters with their meaning, and its size in figures."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel

from sim.scenarios.scenario import PaperScenario, Scenario, WorldScenario
from sim.world.events import Happening
from sim.world.settings import WorldSettings
from sim.world.upper_bound import foresee
from stream.config import StreamSettings

SEEN_TICKS: Final = 40  # at least, from which the seer's figures are computed
_TEXTS: Final = {"kind", "title", "description"}


class Parameter(NamedTuple):
    """A key of a table that the scenario has, with its value."""

    table: str
    key: str
    value: str
    given: bool
    """Whether the file sets it; otherwise it is the default."""
    meaning: str


def parameters(scenario: Scenario) -> Iterator[Parameter]:
    """Yield the parameters of all tables that the scenario has."""
    settings = scenario.settings
    for table in type(settings).model_fields:
        if table in _TEXTS:
            continue
        value = getattr(settings, table)
        several = value if isinstance(value, tuple) else [value]
        for number, part in enumerate(several, 1):
            if isinstance(part, BaseModel):
                name = f"{table} {number}" if len(several) > 1 else table
                yield from _of_table(name, part)


def _of_table(name: str, table: BaseModel) -> Iterator[Parameter]:
    for key, field in type(table).model_fields.items():
        value = getattr(table, key)
        if value is not None:
            meaning = (field.description or "").replace("\n", " ")
            yield Parameter(name, key, _text(value), key in table.model_fields_set, meaning)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def size(scenario: Scenario) -> str:
    """Return the size of a scenario in three words."""
    if isinstance(scenario, PaperScenario):
        return f"{scenario.dirichlet.records:,} records of {scenario.dirichlet.length}"
    assert isinstance(scenario.settings, WorldSettings)
    what = "slates" if scenario.settings.slates else "clicks"
    return f"{scenario.settings.base.events:,} {what}"


def figures(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Yield (name, text): what the stream holds, and what the seer reaches."""
    if isinstance(scenario, PaperScenario):
        yield "events", f"{len(scenario.source()):,}"
        return
    assert isinstance(scenario, WorldScenario)
    columns = scenario.source().columns
    count = np.bincount(columns.what, minlength=len(Happening)).tolist()
    parts = [f"{count[Happening.SLATE]:,} slates", f"{count[Happening.CLICK]:,} clicks"]
    parts += [f"{count[Happening.BIRTH]:,} births", f"{count[Happening.DEATH]:,} deaths"]
    yield "events", f"{len(columns):,}: " + ", ".join(part for part in parts if not part.startswith("0 "))
    users = np.unique(scenario.world.visits.users)
    bots = int(scenario.world.users.bots[users].sum())
    yield "users", f"{len(users):,} of {scenario.settings.base.users:,} come" + (f", {bots:,} bots" if bots else "")
    yield "items", f"{len(scenario.world.items):,} ever live"
    if scenario.settings.slates:
        yield "late clicks", f"{_late(scenario):.1%} come after the action window and are no labels"
    every = max(1, scenario.world.ticks // SEEN_TICKS)
    seen = foresee(scenario.world, range(0, scenario.world.ticks, every)).expected()
    hits = f"HR@10 {seen['hr10']:.3f}, HR@50 {seen['hr50']:.3f}, NDCG@10 {seen['ndcg10']:.3f}"
    yield "the seer", f"{hits}: nobody can do better; it knows what is hidden"


def _late(scenario: WorldScenario) -> float:
    """Return the share of the clicks that come too late to be labels."""
    columns = scenario.source().columns
    window_ms = scenario.stream_settings(StreamSettings()).action_window_s * 1000
    clicks = columns.what == Happening.CLICK
    waited_ms = columns.ts_ms[clicks] - scenario.world.visits.ts_ms[columns.request[clicks]]
    return float((waited_ms >= window_ms).mean()) if clicks.any() else 0.0
