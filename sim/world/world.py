"""The world at any time: which items live, what is popular, and the law by which each user chooses.

R = requests, C = categories, V = live items, ordered by category. Time goes in ticks of equal event time, about BLOCK
requests each. Within a tick the world stands still: births, deaths and drifts come where a tick begins.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.dirichlet.stream import START_MS
from sim.world.base import DAY_MS, Base
from sim.world.drifts import DriftLaw
from sim.world.drifts.shock import ShockLaw
from sim.world.items import Items, draw_items
from sim.world.settings import WorldSettings
from sim.world.users import Users, Visits

BLOCK: Final = 256  # requests of a tick, on average
_BELOW_ONE: Final = 1 - 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class LiveItems:
    """The items that live in one tick. An item's place is its index here."""

    items: NDArray[np.int64]  # [V] ids, by category
    category: NDArray[np.int64]  # [V]
    share: NDArray[np.float64]  # [V] of its category's weight, shocks included
    first: NDArray[np.int64]  # [C+1] first place of each category
    pull: NDArray[np.float64]  # [C] factor of the category in every user's taste: season × shocks
    weight: NDArray[np.float64]  # [V] item's weight, shocks and season included

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """p(item | user, time) of each of R requests, as a mixture.

    p = person (taste[category of i] share[i]) + (1 - person) / V
    """

    live: LiveItems
    taste: NDArray[np.float64]  # [R, C] over categories; each row sums to 1
    person: NDArray[np.float64]  # [R] weight of the taste: 1 - noise, 0 for bots

    def at(self, place_Rk: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probabilities of live items by their places, [R, k]."""
        rows_R1 = np.arange(len(place_Rk))[:, None]
        own_Rk = self.taste[rows_R1, self.live.category[place_Rk]] * self.live.share[place_Rk]
        return self.person[:, None] * own_Rk + (1 - self.person[:, None]) / len(self.live)

    def all(self) -> NDArray[np.float64]:
        """Return all probabilities, [R, V]; each row sums to 1."""
        own_RV = self.taste[:, self.live.category] * self.live.share
        return self.person[:, None] * own_RV + (1 - self.person[:, None]) / len(self.live)

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw places of live items, with repetition, [R, count]."""
        requests, categories = self.taste.shape
        which, within, whether = rng.random((3, requests, count)) * _BELOW_ONE
        edge_RC = np.cumsum(self.taste, axis=1)
        row_R1 = np.arange(requests)[:, None]
        edges = (edge_RC / edge_RC[:, -1:] + row_R1).ravel()
        found = np.searchsorted(edges, which + row_R1, side="right") - row_R1 * categories
        place = _within(self.live, np.clip(found, 0, categories - 1), within)
        anywhere = (within * len(self.live)).astype(np.int64)
        return np.where(whether < self.person[:, None], place, anywhere)


def _within(live: LiveItems, category: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draw a place in each category, by share."""
    ends_V = np.cumsum(live.share)
    before_C = np.concatenate([[0.0], ends_V])[live.first]
    first, stop = live.first[category], live.first[category + 1]
    wanted = before_C[category] + uniform * (before_C[category + 1] - before_C[category])
    place: NDArray[np.int64] = np.clip(np.searchsorted(ends_V, wanted, side="right"), first, stop - 1)
    return place


class World:
    """Everything that is hidden in a scenario; a function of its settings alone."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        self.ticks = -(-self.base.events // BLOCK)
        self.span_ms = int(self.base.days * DAY_MS)
        self.users = Users(settings)
        self.items: Items = draw_items(settings, self.ticks)
        self._by_category = np.argsort(self.items.category, kind="stable")
        self.laws = [drift.law(self, number) for number, drift in settings.drifts()]
        self.live = lru_cache(maxsize=2)(self._live)

    @property
    def base(self) -> Base:
        """Sizes and the seed."""
        return self.settings.base

    @cached_property
    def visits(self) -> Visits:
        """All requests: who comes when."""
        return self.users.visits([law.presence for law in self.laws if moves_users(law)])

    @cached_property
    def first_requests(self) -> NDArray[np.int64]:
        """First request of each tick, and their number at the end, [N+1]."""
        begins_ms = np.array([self.begins_ms(tick) for tick in range(1, self.ticks)], np.int64)
        inner = np.searchsorted(self.visits.ts_ms, begins_ms)
        return np.concatenate([[0], inner, [len(self.visits.ts_ms)]])

    def begins_ms(self, tick: int) -> int:
        """Return the time at which a tick begins."""
        return START_MS + tick * self.span_ms // self.ticks

    def elapsed_d(self, tick: int) -> float:
        """Return the days before a tick begins."""
        return (self.begins_ms(tick) - START_MS) / DAY_MS

    def tick_at(self, ts_ms: int) -> int:
        """Return the tick of a time."""
        tick = (ts_ms - START_MS) * self.ticks // self.span_ms
        tick += tick + 1 < self.ticks and self.begins_ms(tick + 1) <= ts_ms
        return min(max(tick, 0), self.ticks - 1)

    def tick_from(self, day: float) -> int:
        """Return the first tick that begins on that day or later; the last tick if none does."""
        at_ms = START_MS + round(day * DAY_MS)
        tick = self.tick_at(at_ms)
        return min(tick + (self.begins_ms(tick) < at_ms), self.ticks - 1)

    def alive(self, tick: int) -> NDArray[np.int64]:
        """Return the ids of the items that live in a tick, ascending."""
        return np.flatnonzero((self.items.born <= tick) & (tick < self.items.dies))

    def taste(self, number: int) -> NDArray[np.float64]:
        """Return the drawn taste `number` of all users, [U, C]; each row sums to 1."""
        return self.users.taste(number)

    def tastes(self, users_R: NDArray[np.int64], day: float) -> NDArray[np.float64]:
        """Return the tastes of users on a day, [R, C]; each row sums to 1."""
        taste_RC = self.taste(0)[users_R]
        for law in self.laws:
            taste_RC = law.tastes(taste_RC, users_R, day)
        return taste_RC

    def law(self, users_R: NDArray[np.int64], ts_ms: int) -> Law:
        """Return the law by which these users choose at that time."""
        return self.law_of(users_R, self.tick_at(ts_ms))

    def law_of(self, users_R: NDArray[np.int64], tick: int) -> Law:
        """Return the law by which these users choose in a tick."""
        live, noise = self.live(tick), self.settings.noise
        taste_RC = self.tastes(users_R, self.elapsed_d(tick)) * live.pull
        total_R1 = taste_RC.sum(axis=1, keepdims=True)
        there_C = np.diff(live.first) > 0
        taste_RC = np.where(total_R1 > 0, taste_RC / np.where(total_R1 > 0, total_R1, 1), there_C / there_C.sum())
        person_R = np.where(self.users.bots[users_R], 0.0, 1 - (noise.share if noise else 0.0))
        return Law(live, taste_RC, person_R)

    def _live(self, tick: int) -> LiveItems:
        items, categories = self.items, self.base.categories
        ordered, day = self._by_category, self.elapsed_d(tick)
        live = ordered[(items.born[ordered] <= tick) & (tick < items.dies[ordered])]
        category, plain = items.category[live], items.weight[live]
        boost_V, season_C = np.ones(len(live)), np.ones(categories)
        for law in self.laws:
            boost_V = boost_V * law.item_factors(live, day)
            season_C = season_C * law.category_factors(day)
        weight = plain * boost_V
        plain_C, weight_C = (np.bincount(category, w, minlength=categories) for w in (plain, weight))
        pull_C = season_C * weight_C / np.where(plain_C > 0, plain_C, 1)
        first = np.searchsorted(category, np.arange(categories + 1))
        return LiveItems(live, category, weight / weight_C[category], first, pull_C, weight * season_C[category])

    @property
    def shocked(self) -> list[NDArray[np.int64]]:
        """Items of each shock."""
        return [law.items for law in self.laws if isinstance(law, ShockLaw)]


def moves_users(law: DriftLaw) -> bool:
    """Return whether a law changes who comes when."""
    return type(law).presence is not DriftLaw.presence
