"""The tables of a scenario file, each with its keys, their meaning and their limits.

A table that is absent is a drift that does not happen; [base] alone is a world that stands still. `hstu scenarios show`
prints the docstring under each key. The formulas of the laws stand in sim/scenarios/__init__.py.
"""

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_type_hints

from pydantic import BeforeValidator, Field, create_model, model_validator

from sim.dirichlet.stream import DirichletSettings
from sim.world.base import DAY_MS, Base, Positive, SettingsTable, Share
from sim.world.drifts import Drift
from sim.world.drifts.rotation import Rotation
from sim.world.drifts.season import Season
from sim.world.drifts.shock import Shock

CROWDED: Final = 10  # ms of the span that each event needs, so that no two are at one instant
MOST_TASTES: Final = 20_000_000  # users × categories, which are held in memory


class Growth(SettingsTable):
    """The catalogue grows from a first share of the items to all of them."""

    first: float = Field(0.4, gt=0, le=1)
    """Share of the items that is there at the beginning."""
    power: float = Field(1.0, gt=0, le=100)
    """Exponent of elapsed time by which the rest comes: 1 evenly, 2 late, 0.5 early."""


class Turnover(SettingsTable):
    """Items are born and die; each death makes room for a birth."""

    lifetime_d: Positive
    """How long an item lives, on average."""
    law: Literal["exponential", "fixed"] = "exponential"
    """Lifetimes are exponential, or all equal."""


class Slates(SettingsTable):
    """Items are shown together, and what is shown can be clicked; without this table events are organic clicks."""

    size: int = Field(10, ge=1, le=200)
    """Items of a slate."""
    policy: Literal["taste", "popularity", "uniform"] = "taste"
    """How they were chosen in the log: in proportion to the user's own law, to popularity, or uniformly."""
    explore: Share = 0.0
    """Share of the shown items that is drawn uniformly from all live ones."""
    half_lift: Positive = 10.0
    """An item this many times likelier than a random one is clicked every second time that it is looked at."""
    closed: bool = False
    """Closed loop: `hstu compare` shows the recommender's own top k; the log still shows the policy's slates."""


class Position(SettingsTable):
    """Items at lower places of a slate are looked at less often."""

    decay: float = Field(1.0, ge=0, le=10)
    """Place j is looked at with probability (1/j)**decay."""


class Delay(SettingsTable):
    """A click comes some time after its slate, sometimes too late to be its label."""

    law: Literal["exponential", "lognormal", "fixed"] = "exponential"
    """Law of the delay."""
    seconds: float = Field(gt=0, le=3.2e7)
    """Mean of the exponential, median of the lognormal, or the delay of all clicks."""
    sigma: float = Field(1.0, gt=0, le=10)
    """Spread of the lognormal; the others have none."""


class Noise(SettingsTable):
    """Some clicks say nothing about the user."""

    share: Share
    """Share of the clicks that fall uniformly on all live items."""


class Bots(SettingsTable):
    """Some users are bots: very active, and without any taste."""

    share: float = Field(0.01, gt=0, le=1)
    """Share of the users who are bots."""
    activity: float = Field(30.0, gt=0, le=1e6)
    """How many times as active as a person a bot is."""


class Joining(SettingsTable):
    """Settings of the joiner for this scenario; the keys are those of table [stream] of hstu.toml."""

    action_window_s: Positive | None = None
    """Time after a slate within which a click counts as its label."""
    gather_targets: int | None = Field(None, ge=1)
    """Targets of one user at which they leave as one example."""
    gather_s: float | None = Field(None, ge=0, le=1e9)
    """Event time after which they leave, however few they are."""
    example_tokens: int | None = Field(None, ge=16)
    """Tokens of history in one example at most."""


def _as_list(value: object) -> object:
    """Return a single [shock] as a list, as several [[shock]] are one."""
    return [value] if isinstance(value, dict) else value


class WorldSettings(SettingsTable):
    """A scenario in which users of given tastes click in a world that changes.

    The tables stand in the order of the fingerprint. Those of further drifts come behind them (with_drifts).
    """

    kind: Literal["world"] = "world"
    title: str = ""
    description: str = ""
    base: Base = Base()
    growth: Growth | None = None
    turnover: Turnover | None = None
    shock: Annotated[tuple[Shock, ...], BeforeValidator(_as_list)] = ()
    rotation: Rotation | None = None
    season: Season | None = None
    slates: Slates | None = None
    position: Position | None = None
    delay: Delay | None = None
    noise: Noise | None = None
    bots: Bots | None = None
    stream: Joining = Joining()

    @model_validator(mode="after")
    def _tables_fit(self) -> Self:
        for problem in _misfits(self):
            raise ValueError(problem)
        return self

    @property
    def first_items(self) -> int:
        """Number of items there at the beginning."""
        first = self.growth.first if self.growth else 1.0
        return max(1, int(first * self.base.items))

    def tables(self) -> list[str]:
        """Return the names of the tables that are there: what drifts, and how items are shown and clicked."""
        names = (name for name, value in self if isinstance(value, SettingsTable | tuple) and value)
        return [name for name in names if name not in ("base", "stream")]

    def drifts(self) -> Iterator[tuple[int, Drift]]:
        """Yield the drifts of the package drifts/, each with its number among the tables of its name."""
        for _, value in self:
            several = value if isinstance(value, tuple) else (value,)
            yield from ((number, drift) for number, drift in enumerate(several) if isinstance(drift, Drift))


def with_drifts(drifts: Mapping[str, type[Drift]]) -> type[WorldSettings]:
    """Return WorldSettings with a table for each of these drifts, name → class, that it lacks.

    A table that is absent leaves no trace in what is dumped: the fingerprints of scenarios without it stay as they are.
    """
    tables: dict[str, Any] = {
        name: (drift | None, Field(None, exclude_if=lambda value: value is None))
        for name, drift in drifts.items()
        if name not in WorldSettings.model_fields
    }
    return create_model("WorldSettings", __base__=WorldSettings, **tables) if tables else WorldSettings


def _misfits(settings: WorldSettings) -> Iterator[str]:
    """Yield what does not go together, as sentences without a full stop."""
    base = settings.base
    if settings.slates is None:
        for name in ("position", "delay"):
            if getattr(settings, name) is not None:
                yield f"table [{name}] says something about slates, so it needs a table [slates]"
    elif settings.slates.size > settings.first_items:
        yield f"a slate of {settings.slates.size} is more than the {settings.first_items} items there at first"
    if settings.first_items < base.categories:
        yield (
            f"{settings.first_items} items are there at first, which must be as many as the {base.categories} "
            "categories; take more items (base.items, growth.first) or fewer base.categories"
        )
    if base.users * base.categories > MOST_TASTES:
        yield f"{base.users} users × {base.categories} categories are more than {MOST_TASTES}; take fewer"
    for number, drift in settings.drifts():
        yield from drift.misfits(base, number)
    if base.events * CROWDED > base.days * DAY_MS:
        yield f"{base.events} events do not fit into {base.days:g} days; each needs {CROWDED} ms"


_MEANINGS: Final = {  # of fields that have no docstring in the generator
    "seed": "Seed of all random numbers.",
    "records": "Users, each of one record.",
    "length": "Clicks of a record.",
    "items": "Ids in the end.",
    "categories": "Categories, to which ids are dealt at random.",
    "alpha_low": "Smallest alpha that a record can draw.",
}


def _dirichlet_table() -> Any:
    """Return a table with the fields of DirichletSettings."""
    hints, texts = get_type_hints(DirichletSettings), _docstrings_of_fields(DirichletSettings)
    columns: dict[str, Any] = {
        field.name: (
            hints[field.name],
            Field(field.default, description=texts.get(field.name, _MEANINGS.get(field.name))),
        )
        for field in fields(DirichletSettings)
    }
    return create_model(
        "Dirichlet", __base__=SettingsTable, __doc__="The paper's stream (sim/dirichlet/stream.py).", **columns
    )


def _docstrings_of_fields(owner: type) -> dict[str, str]:
    """Return the docstring under each field of a class."""
    body = ast.parse(inspect.getsource(owner)).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: inspect.cleandoc(str(text.value.value))
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


if TYPE_CHECKING:
    Dirichlet = SettingsTable
else:
    Dirichlet = _dirichlet_table()


class DirichletScenario(SettingsTable):
    """A scenario that is the stream of sim/dirichlet/stream.py."""

    kind: Literal["dirichlet"]
    title: str = ""
    description: str = ""
    dirichlet: Dirichlet = Dirichlet()


ScenarioSettings = WorldSettings | DirichletScenario
