"""Users: their tastes over categories, which of them are bots, and when each comes.

U = users, C = categories, S = slots, N = visits, R = requests (clicks, or slates with [slates]). The formulas are in
sim/scenarios/__init__.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.dirichlet.stream import START_MS
from sim.world.base import DAY_MS, Base
from sim.world.rng import Use, rng_for, rng_named
from sim.world.settings import WorldSettings

Presence = Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64] | float]
_ROUNDS: Final = 1_000  # of drawing users for visits whose user is absent


@dataclass(frozen=True, slots=True)
class Visits:
    """All requests in time order, no two at one instant."""

    users: NDArray[np.int64]  # [R]
    ts_ms: NDArray[np.int64]  # [R]


class Users:
    """The users of one world."""

    def __init__(self, settings: WorldSettings) -> None:
        self._settings = settings
        base = settings.base
        rng = rng_for(base.seed, Use.USERS)
        weight_U = np.exp(base.activity * rng.standard_normal(base.users))
        self.bots = np.zeros(base.users, np.bool_)  # [U]
        if settings.bots:
            count = max(1, round(settings.bots.share * base.users))
            self.bots[rng.permutation(base.users)[:count]] = True
            weight_U[self.bots] *= settings.bots.activity
        self.activity = weight_U / weight_U.sum()  # [U] share of the visits
        self.taste = lru_cache(maxsize=3)(self._draw_taste)

    def _draw_taste(self, number: int) -> NDArray[np.float64]:
        """Draw taste `number` of all users, [U, C]."""
        base = self._settings.base
        rng = rng_for(base.seed, Use.TASTES, number)
        drawn_US = rng.integers(base.categories, size=(base.users, base.slots))
        weight_US = np.maximum(rng.standard_gamma(base.concentration, (base.users, base.slots)), 1e-300)
        mix_UC = np.zeros((base.users, base.categories))
        np.add.at(mix_UC, (np.arange(base.users)[:, None], drawn_US), weight_US)
        taste_UC: NDArray[np.float64] = mix_UC / mix_UC.sum(axis=1, keepdims=True)
        return taste_UC

    def visits(self, presences: Sequence[Presence] = ()) -> Visits:
        """Draw who comes when.

        Args:
            presences: How active users are as shares of their usual activity; see DriftLaw.presence.
        """
        base = self._settings.base
        rng = rng_for(base.seed, Use.VISITS)
        length_N = _lengths(rng, base)
        last_N = np.cumsum(length_N)
        visit_R = np.repeat(np.arange(len(length_N)), length_N)[: base.events]
        user_N = self._drawn(rng, len(length_N))
        begun_N = rng.random(len(length_N)) * base.days * DAY_MS
        user_N = self._replaced(user_N, begun_N / DAY_MS, presences)
        passed_R = np.cumsum(rng.standard_exponential(len(visit_R)) * base.session_gap_s * 1000)
        ts_R = begun_N[visit_R] + passed_R - passed_R[(last_N - length_N)[visit_R]]
        order_R = np.argsort(ts_R, kind="stable")
        return Visits(user_N[visit_R[order_R]], START_MS + _apart(ts_R[order_R].astype(np.int64)))

    def _drawn(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw users in proportion to their activity."""
        return np.searchsorted(np.cumsum(self.activity)[:-1], rng.random(count), side="right")

    def _replaced(
        self, user_N: NDArray[np.int64], day_N: NDArray[np.float64], presences: Sequence[Presence]
    ) -> NDArray[np.int64]:
        """Put other users in the place of absent ones, so that u comes in proportion to activity × presence(u, day).

        Where nobody is there, the user drawn last comes all the same.
        """
        rng, open_N = rng_named(self._settings.base.seed, "presence"), np.arange(len(user_N))
        for _ in range(_ROUNDS if presences else 0):
            present_N = np.ones(len(open_N))
            for presence in presences:
                present_N = present_N * presence(user_N[open_N], day_N[open_N])
            open_N = open_N[rng.random(len(open_N)) >= present_N]
            if not len(open_N):
                break
            user_N[open_N] = self._drawn(rng, len(open_N))
        return user_N


def _lengths(rng: np.random.Generator, base: Base) -> NDArray[np.int64]:
    """Draw the lengths of visits until they hold all events; the last one may be shortened."""
    length_R = rng.geometric(1 / base.session, base.events)
    return length_R[: int(np.searchsorted(np.cumsum(length_R), base.events)) + 1]


def _apart(ts_ms_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ascending times, moved on where needed, so that each is later than the one before."""
    place_R = np.arange(len(ts_ms_R))
    return np.maximum.accumulate(ts_ms_R - place_R) + place_R
