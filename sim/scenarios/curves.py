"""What drifts, as curves: data for the terminal (terminal.py) and for a page (html_page.py).

X = points of a curve, U = sampled users, C = categories, V = live items. Curves show the law, not drawn events, unless
a drawing says that it was counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.dirichlet.stream import DirichletStream
from sim.scenarios.scenario import PaperScenario, Scenario, WorldScenario
from sim.world.events import Happening
from sim.world.rng import Use, rng_for
from sim.world.slates import delays_ms
from sim.world.world import World, moves_users

POINTS: Final = 60
USERS: Final = 300  # sampled for curves of means
CATEGORIES: Final = 6
HEAD: Final = 10
PERCENT: Final = "%"
_DELAYS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a drawing."""

    label: str
    y: NDArray[np.float64]  # [X]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Curves over the same x."""

    title: str
    about: str
    """A sentence about what the curves show."""
    x_label: str
    x: NDArray[np.float64]  # [X]
    curves: list[Curve]
    unit: str = ""


def drawings(scenario: Scenario) -> list[Drawing]:
    """Return the drawings of a scenario."""
    if isinstance(scenario, WorldScenario):
        return list(_of_world(scenario))
    assert isinstance(scenario, PaperScenario)
    return _of_paper(scenario.source())


def _of_paper(stream: DirichletStream) -> list[Drawing]:
    settings = stream.settings
    number_X = np.linspace(0, settings.records - 1, min(POINTS, settings.records)).astype(np.int64)
    there = Curve("there", stream.available(number_X).astype(np.float64))
    seen = [len(np.unique(stream.records(record, record + 1).items)) for record in number_X.tolist()]
    distinct = Curve("distinct", np.array(seen) / settings.length * 100)
    record_X, about = number_X.astype(np.float64), "Counted: the rest are repeats, which a memory of the record finds."
    return [
        Drawing("Live items", "Ids that a record can show.", "record", record_X, [there]),
        Drawing("Distinct items in a record", about, "record", record_X, [distinct], PERCENT),
    ]


def _of_world(scenario: WorldScenario) -> Iterator[Drawing]:
    world = scenario.world
    ticks = np.unique(np.linspace(0, world.ticks - 1, POINTS).astype(np.int64)).tolist()
    day_X = np.array([world.elapsed_d(tick) for tick in ticks])
    live_X = np.array([len(world.live(tick)) for tick in ticks], np.float64)
    yield Drawing("Live items", "Items that can be shown and clicked.", "day", day_X, [Curve("alive", live_X)])
    yield _category_mix(world, ticks, day_X)
    yield _one_taste(world, ticks, day_X)
    yield _head(world, ticks, day_X)
    if any(map(moves_users, world.laws)):
        yield _presence(world, day_X)
    if scenario.settings.slates:
        yield _places(scenario)
    if scenario.settings.delay:
        yield _delays(scenario)


def _sample(world: World) -> NDArray[np.int64]:
    """Draw users in proportion to their visits."""
    rng = rng_for(world.settings.base.seed, Use.USERS, 1)
    return np.searchsorted(np.cumsum(world.users.activity)[:-1], rng.random(USERS), side="right")


def _category_mix(world: World, ticks: list[int], day_X: NDArray[np.float64]) -> Drawing:
    users_U = _sample(world)
    share_XC = np.array([world.law_of(users_U, tick).taste.mean(axis=0) for tick in ticks]) * 100
    moving_C = np.argsort(-(share_XC.max(axis=0) - share_XC.min(axis=0)), kind="stable")[:CATEGORIES]
    curves = [Curve(f"category {category}", share_XC[:, category]) for category in sorted(moving_C.tolist())]
    about = f"Share of all clicks that each category draws; the {len(curves)} that move most."
    return Drawing("Category mix of all users", about, "day", day_X, curves, PERCENT)


def _one_taste(world: World, ticks: list[int], day_X: NDArray[np.float64]) -> Drawing:
    """Return the drawing of the most active person's taste."""
    person = int(np.argmax(np.where(world.users.bots, -1.0, world.users.activity)))
    share_XC = np.array([world.law_of(np.array([person]), tick).taste[0] for tick in ticks]) * 100
    liked_C = np.argsort(-share_XC.max(axis=0), kind="stable")[:CATEGORIES]
    curves = [Curve(f"category {category}", share_XC[:, category]) for category in sorted(liked_C.tolist())]
    about = f"User u{person}, the most active person: the categories that this user ever likes most."
    return Drawing("Taste of one user", about, "day", day_X, [c for c in curves if c.y.max() > 0], PERCENT)


def _head(world: World, ticks: list[int], day_X: NDArray[np.float64]) -> Drawing:
    users_U = _sample(world)
    first: NDArray[np.int64] | None = None
    rows = []
    shocked = np.unique(np.concatenate([np.empty(0, np.int64), *world.shocked]))
    for tick in ticks:
        law = world.law_of(users_U, tick)
        p_V, items = law.all().mean(axis=0), law.live.items
        top = items[np.argsort(-p_V, kind="stable")[:HEAD]]
        first = top if first is None else first
        rows.append([p_V[np.isin(items, chosen)].sum() for chosen in (top, first, shocked)])
    share_XK = np.array(rows) * 100
    labels = [f"top {HEAD} of the day", f"top {HEAD} of day 0", "items of shocks"]
    curves = [Curve(label, share_XK[:, column]) for column, label in enumerate(labels)]
    about = "Share of all clicks that fall on the most popular items."
    return Drawing("Popularity of the head", about, "day", day_X, curves[: 2 + bool(len(shocked))], PERCENT)


def _presence(world: World, day_X: NDArray[np.float64]) -> Drawing:
    users_U = np.arange(world.base.users)
    share_X = np.zeros(len(day_X))
    for place, day in enumerate(day_X.tolist()):
        present_U = np.ones(len(users_U))
        for law in world.laws:
            present_U = present_U * law.presence(users_U, np.full(len(users_U), day))
        share_X[place] = (world.users.activity * present_U).sum() * 100
    about = "Share of the users who come at that time, weighted by their activity."
    return Drawing("Users who are there", about, "day", day_X, [Curve("present", share_X)], PERCENT)


def _places(scenario: WorldScenario) -> Drawing:
    """Return the drawing of the log's clicks, counted by the place of their item."""
    columns = scenario.source().columns
    clicks = np.flatnonzero(columns.what == Happening.CLICK)
    shown_Ak = columns.shown[columns.request[clicks]]
    count_k = (shown_Ak == columns.item[clicks][:, None]).sum(axis=0) / max(1, len(columns.shown)) * 100
    place_k = np.arange(1, len(count_k) + 1, dtype=np.float64)
    about = f"Counted: how often the item at each place is clicked; {count_k.sum() / 100:.2f} clicks a slate."
    return Drawing("Clicks by place", about, "place", place_k, [Curve("clicked", count_k)], PERCENT)


def _delays(scenario: WorldScenario) -> Drawing:
    """Return the drawing of the share of clicks that have come by some time."""
    seconds = np.sort(delays_ms(scenario.settings, rng_for(0, Use.DELAYS, 2**63), (_DELAYS,))) / 1000
    shown_X = np.linspace(0, float(seconds[int(_DELAYS * 0.98)]) * 1.02 + 1, POINTS)
    come_X = np.searchsorted(seconds, shown_X, side="right") / _DELAYS * 100
    about = "Share of the clicks that have come by this time after their slate."
    return Drawing("Delay of the clicks", about, "seconds", shown_X, [Curve("come", come_X)], PERCENT)
