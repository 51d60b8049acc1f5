"""The world at any time: who is alive, what is popular, and the law by which each user chooses.

R = requests, C = categories, V = live items, ordered by category. Time goes in ticks of equal event time, about BLOCK
requests each; within a tick the world stands still, so births, deaths and drifts come where a tick begins.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.dirichlet.stream import START_MS
from sim.world.items import Items, draw_items
from sim.world.rng import Use, chance
from sim.world.settings import DAY_MS, Shock, WorldSettings
from sim.world.users import Users, Visits

BLOCK: Final = 256  # requests of a tick, on average
_BELOW_ONE: Final = 1 - 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """What is there in one tick."""

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
    """p(item | user, time): what each of R requests is drawn from, as a mixture.

    p = person (taste[category of i] share[i]) + (1 - person) / V
    """

    shelf: Shelf
    taste: NDArray[np.float64]  # [R, C] over categories; each row sums to 1
    person: NDArray[np.float64]  # [R] weight of the taste: 1 - noise, 0 for bots

    def at(self, place_Rk: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the probabilities of places on the shelf, [R, k]."""
        rows_R1 = np.arange(len(place_Rk))[:, None]
        own_Rk = self.taste[rows_R1, self.shelf.category[place_Rk]] * self.shelf.share[place_Rk]
        return self.person[:, None] * own_Rk + (1 - self.person[:, None]) / len(self.shelf)

    def all(self) -> NDArray[np.float64]:
        """Give all probabilities, [R, V]; each row sums to 1."""
        own_RV = self.taste[:, self.shelf.category] * self.shelf.share
        return self.person[:, None] * own_RV + (1 - self.person[:, None]) / len(self.shelf)

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw places on the shelf, with repetition, [R, count]."""
        shelf, (requests, categories) = self.shelf, self.taste.shape
        which, within, whether = rng.random((3, requests, count)) * _BELOW_ONE
        edge_RC = np.cumsum(self.taste, axis=1)
        row_R1 = np.arange(requests)[:, None]
        edges = (edge_RC / edge_RC[:, -1:] + row_R1).ravel()
        found = np.searchsorted(edges, which + row_R1, side="right") - row_R1 * categories
        place = _within(shelf, np.clip(found, 0, categories - 1), within)
        anywhere = (within * len(shelf)).astype(np.int64)
        return np.where(whether < self.person[:, None], place, anywhere)


def _within(shelf: Shelf, category: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draw a place in each category, by share."""
    ends_V = np.cumsum(shelf.share)
    before_C = np.concatenate([[0.0], ends_V])[shelf.first]
    first, stop = shelf.first[category], shelf.first[category + 1]
    wanted = before_C[category] + uniform * (before_C[category + 1] - before_C[category])
    place: NDArray[np.int64] = np.clip(np.searchsorted(ends_V, wanted, side="right"), first, stop - 1)
    return place


class World:
    """All that is hidden in a scenario; a function of its settings alone."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        base = settings.base
        self.ticks = -(-base.events // BLOCK)
        self.span_ms = int(base.days * DAY_MS)
        self.users = Users(settings)
        self.items: Items = draw_items(settings, self.ticks)
        self._by_category = np.argsort(self.items.category, kind="stable")
        self.shelf = lru_cache(maxsize=2)(self._shelf)

    @cached_property
    def visits(self) -> Visits:
        """Who comes when."""
        return self.users.visits()

    @cached_property
    def cuts(self) -> NDArray[np.int64]:
        """First request of each tick, and their number at the end, [N+1]."""
        begins_ms = np.array([self.begins_ms(tick) for tick in range(1, self.ticks)], np.int64)
        inner = np.searchsorted(self.visits.ts_ms, begins_ms)
        return np.concatenate([[0], inner, [len(self.visits.ts_ms)]])

    def begins_ms(self, tick: int) -> int:
        """Give the time at which a tick begins."""
        return START_MS + tick * self.span_ms // self.ticks

    def elapsed_d(self, tick: int) -> float:
        """Give the days before a tick begins."""
        return (self.begins_ms(tick) - START_MS) / DAY_MS

    def tick_at(self, ts_ms: int) -> int:
        """Give the tick of a time."""
        tick = (ts_ms - START_MS) * self.ticks // self.span_ms
        tick += tick + 1 < self.ticks and self.begins_ms(tick + 1) <= ts_ms
        return min(max(tick, 0), self.ticks - 1)

    def law(self, users_R: NDArray[np.int64], ts_ms: int) -> Law:
        """Give the law by which these users choose at that time."""
        return self.law_of(users_R, self.tick_at(ts_ms))

    def law_of(self, users_R: NDArray[np.int64], tick: int) -> Law:
        """Give the law of a tick."""
        shelf, noise = self.shelf(tick), self.settings.noise
        taste_RC = self.users.mix(users_R, self.elapsed_d(tick)) * shelf.pull
        total_R1 = taste_RC.sum(axis=1, keepdims=True)
        there_C = np.diff(shelf.first) > 0
        taste_RC = np.where(total_R1 > 0, taste_RC / np.where(total_R1 > 0, total_R1, 1), there_C / there_C.sum())
        person_R = np.where(self.users.bots[users_R], 0.0, 1 - (noise.share if noise else 0.0))
        return Law(shelf, taste_RC, person_R)

    def _shelf(self, tick: int) -> Shelf:
        items, categories = self.items, self.settings.base.categories
        ordered = self._by_category
        live = ordered[(items.born[ordered] <= tick) & (tick < items.dies[ordered])]
        category, plain = items.category[live], items.weight[live]
        weight = plain * self._boost(live, tick)
        plain_C, weight_C = (np.bincount(category, w, minlength=categories) for w in (plain, weight))
        season_C = self._season(tick)
        pull_C = season_C * weight_C / np.where(plain_C > 0, plain_C, 1)
        first = np.searchsorted(category, np.arange(categories + 1))
        return Shelf(live, category, weight / weight_C[category], first, pull_C, weight * season_C[category])

    def _season(self, tick: int) -> NDArray[np.float64]:
        categories, season = self.settings.base.categories, self.settings.season
        if season is None:
            return np.ones(categories)
        phase_C = self.elapsed_d(tick) / season.period_d + np.arange(categories) / categories
        return 1 + season.amplitude * np.sin(2 * np.pi * phase_C)

    def _boost(self, live: NDArray[np.int64], tick: int) -> NDArray[np.float64]:
        """Give the factor of each live item by all shocks so far."""
        boost = np.ones(len(live))
        for number, shock in enumerate(self.settings.shock):
            since_d = self.elapsed_d(tick) - self.elapsed_d(self._shock_tick(shock))
            if since_d >= 0:
                excess = (shock.factor - 1) * 2 ** (-since_d / shock.half_life_d)
                boost[np.isin(live, self.shocked[number])] *= 1 + excess
        return boost

    @cached_property
    def shocked(self) -> list[NDArray[np.int64]]:
        """Items of each shock."""
        chosen = []
        for number, shock in enumerate(self.settings.shock):
            tick = self._shock_tick(shock)
            live = np.flatnonzero((self.items.born <= tick) & (tick < self.items.dies))
            rng = chance(self.settings.base.seed, Use.SHOCK, number)
            chosen.append(np.sort(rng.permutation(live)[: shock.items]))
        return chosen

    def _shock_tick(self, shock: Shock) -> int:
        """Give the tick in which a shock is first felt: the first one that begins with it or after it."""
        at_ms = START_MS + round(shock.at_d * DAY_MS)
        tick = self.tick_at(at_ms)
        return min(tick + (self.begins_ms(tick) < at_ms), self.ticks - 1)
