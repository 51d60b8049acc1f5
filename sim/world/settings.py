"""The tables of a scenario file, each with its keys, what they mean and what they may be.

A table that is absent is a drift that does not happen; [base] alone is a world that stands still. The docstring under a
key is what `hstu scenarios show` prints about it. The laws that the keys are parameters of stand in world/__init__.py.
"""

import ast
import inspect
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from sim.dirichlet.stream import DirichletSettings

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
DAY_MS: Final = 86_400_000
CROWDED: Final = 10  # ms of the span that each event needs, so that no two are at one instant
MOST_TASTES: Final = 20_000_000  # users × categories, which are held in memory


class SettingsTable(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Base(SettingsTable):
    """How big the world is, and what users are like."""

    events: int = Field(100_000, ge=1, le=20_000_000)
    """Clicks; with [slates] the slates shown, whose clicks come on top."""
    users: int = Field(2_000, ge=1, le=1_000_000)
    """Users, each with a taste: a few categories and how much each is liked."""
    items: int = Field(2_000, ge=1, le=100_000)
    """Items there at once, at most; births beyond that replace deaths."""
    categories: int = Field(40, ge=1, le=10_000)
    """Categories, to which items are dealt at random."""
    days: float = Field(30.0, gt=0, le=3650)
    """Event time from the first event to the last."""
    seed: int = Field(0, ge=0, lt=2**64)
    """Of all chance; another seed is another world under the same laws."""
    zipf: float = Field(1.0, ge=0, le=5)
    """How steep popularity is within a category; 0: all items alike."""
    slots: int = Field(4, ge=1, le=1_000)
    """Categories that a user draws, with replacement."""
    concentration: float = Field(1.0, gt=0, le=1e6)
    """Of the Dirichlet weights over a user's slots: small means one favourite, large means all alike."""
    activity: float = Field(0.5, ge=0, le=5)
    """Spread of the users' activity: sigma of a lognormal; 0: all alike."""
    session: float = Field(5.0, ge=1, le=10_000)
    """Events of one visit, on average."""
    session_gap_s: Positive = 20.0
    """Time between two events of one visit, on average."""


class Growth(SettingsTable):
    """The catalogue grows from a first share of the items to all of them."""

    first: float = Field(0.4, gt=0, le=1)
    """Share of the items that is there at the beginning."""
    power: float = Field(1.0, gt=0, le=100)
    """Of elapsed time by which the rest comes: 1 evenly, 2 late, 0.5 early."""


class Turnover(SettingsTable):
    """Items are born and die; each death makes room for a birth."""

    lifetime_d: Positive
    """How long an item lives, on average."""
    law: Literal["exponential", "fixed"] = "exponential"
    """Lifetimes are exponential, or all alike."""


class Shock(SettingsTable):
    """Some items become popular from one moment on, and the fashion decays."""

    at_d: float = Field(ge=0)
    """Day on which it comes."""
    items: int = Field(10, ge=1)
    """How many items, drawn from those alive on that day."""
    factor: float = Field(50.0, gt=1)
    """By how much each one's weight is multiplied at first."""
    half_life_d: Positive = 2.0
    """After so long half of the excess is gone."""


class Rotation(SettingsTable):
    """Every user's taste moves on to another one, and again."""

    period_d: Positive
    """Time from one taste to the next."""
    move: Literal["jump", "glide"] = "jump"
    """Tastes change all at once when a period begins, or slide evenly from one to the next."""


class Season(SettingsTable):
    """The weight of each category follows a sine, one category after the other."""

    period_d: Positive
    """Time from one peak of a category to its next."""
    amplitude: float = Field(0.8, gt=0, lt=1)
    """How far a weight swings around 1."""


class Slates(SettingsTable):
    """Items are shown together, and what is shown can be clicked; without this table events are organic clicks."""

    size: int = Field(10, ge=1, le=200)
    """Items of a slate."""
    policy: Literal["taste", "popularity", "uniform"] = "taste"
    """Who chose them in the log: in proportion to the user's own law, to popularity, or all alike."""
    explore: Share = 0.0
    """Share of the shown items that is drawn from all live ones alike."""
    half_lift: Positive = 10.0
    """An item so many times likelier than a random one is clicked every second time that it is looked at."""
    closed: bool = False
    """Closed loop: under `hstu compare` the recommender's own top k is shown; the log still shows the policy's."""


class Position(SettingsTable):
    """The lower an item stands in its slate, the more seldom it is looked at."""

    decay: float = Field(1.0, ge=0, le=10)
    """Place j is looked at with probability (1/j)**decay."""


class Delay(SettingsTable):
    """A click comes some time after its slate, sometimes too late to be its label."""

    law: Literal["exponential", "lognormal", "fixed"] = "exponential"
    """Which law."""
    seconds: float = Field(gt=0, le=3.2e7)
    """Mean of the exponential, median of the lognormal, or all alike."""
    sigma: float = Field(1.0, gt=0, le=10)
    """Spread of the lognormal; the others have none."""


class Noise(SettingsTable):
    """Some clicks say nothing about the user."""

    share: Share
    """Share of the clicks that fall on any live item alike."""


class Bots(SettingsTable):
    """Some users are bots: very active, and everything is alike to them."""

    share: float = Field(0.01, gt=0, le=1)
    """Of the users."""
    activity: float = Field(30.0, gt=0, le=1e6)
    """How many times as active as a person."""


class Joining(SettingsTable):
    """What the joiner should do otherwise than it would by itself; hstu.toml calls these keys the same."""

    action_window_s: Positive | None = None
    """How long after a slate a click counts as its label."""
    gather_targets: int | None = Field(None, ge=1)
    """Targets of one user that leave as one example at the latest."""
    gather_s: float | None = Field(None, ge=0)
    """Event time after which they leave at the latest."""
    example_tokens: int | None = Field(None, ge=16)
    """Tokens of history in one example at most."""


def _as_list(value: object) -> object:
    """Let one shock be written as a table, and several as [[shock]]."""
    return [value] if isinstance(value, dict) else value


class WorldSettings(SettingsTable):
    """A scenario in which users of given tastes click in a world that changes."""

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
        """Items there at the beginning."""
        first = self.growth.first if self.growth else 1.0
        return max(1, int(first * self.base.items))


def _misfits(settings: WorldSettings) -> list[str]:
    """Say what does not go together."""
    base, found = settings.base, []
    if settings.slates is None:
        for name in ("position", "delay"):
            if getattr(settings, name) is not None:
                found.append(f"table [{name}] says something about slates, so it needs a table [slates]")
    elif settings.slates.size > settings.first_items:
        found.append(f"a slate of {settings.slates.size} is more than the {settings.first_items} items there at first")
    if settings.first_items < base.categories:
        found.append(
            f"{settings.first_items} items are there at first, which must be as many as the {base.categories} "
            "categories; take more items (base.items, growth.first) or fewer base.categories"
        )
    if base.users * base.categories > MOST_TASTES:
        found.append(f"{base.users} users × {base.categories} categories are more than {MOST_TASTES}; take fewer")
    for number, shock in enumerate(settings.shock, 1):
        if shock.at_d >= base.days:
            found.append(f"shock {number} comes on day {shock.at_d:g}, but the stream has only {base.days:g} days")
    if base.events * CROWDED > base.days * DAY_MS:
        found.append(f"{base.events} events do not fit into {base.days:g} days; each needs {CROWDED} ms")
    return found


_SAID: Final = {  # of fields that go without saying in the generator
    "seed": "Of all chance.",
    "records": "Users, each of one record.",
    "length": "Clicks of a record.",
    "items": "Ids in the end.",
    "categories": "Categories, to which ids are dealt at random.",
    "alpha_low": "Smallest alpha that a record can draw.",
}


def _dirichlet_table() -> Any:
    """Give a table with the fields of DirichletSettings, whatever they are."""
    hints, said = get_type_hints(DirichletSettings), _docstrings_of_fields(DirichletSettings)
    columns: dict[str, Any] = {
        field.name: (hints[field.name], Field(field.default, description=said.get(field.name, _SAID.get(field.name))))
        for field in fields(DirichletSettings)
    }
    return create_model(
        "Dirichlet", __base__=SettingsTable, __doc__="The paper's stream (sim/dirichlet/stream.py).", **columns
    )


def _docstrings_of_fields(owner: type) -> dict[str, str]:
    """Give the docstring under each field of a class."""
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
