"""Users: their tastes over categories, how these move, who is a bot, and when everybody comes.

U = users, C = categories, S = slots, R = requests (clicks, or slates with [slates]). The laws are in __init__.py.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim.dirichlet.stream import START_MS
from sim.world.rng import Use, chance
from sim.world.settings import DAY_MS, Base, WorldSettings


@dataclass(frozen=True, slots=True)
class Visits:
    """All requests, in time order; no two are at one instant."""

    users: NDArray[np.int64]  # [R]
    ts_ms: NDArray[np.int64]  # [R]


class Users:
    """The users of one world."""

    def __init__(self, settings: WorldSettings) -> None:
        self._settings = settings
        base = settings.base
        rng = chance(base.seed, Use.USERS)
        weight_U = np.exp(base.activity * rng.standard_normal(base.users))
        self.bots = np.zeros(base.users, np.bool_)  # [U]
        if settings.bots:
            count = max(1, round(settings.bots.share * base.users))
            self.bots[rng.permutation(base.users)[:count]] = True
            weight_U[self.bots] *= settings.bots.activity
        self.activity = weight_U / weight_U.sum()  # [U] share of the visits
        self.taste = lru_cache(maxsize=3)(self._draw_taste)

    def mix(self, users_R: NDArray[np.int64], elapsed_d: float) -> NDArray[np.float64]:
        """Give the users' tastes at a time, [R, C]; each row sums to 1."""
        rotation = self._settings.rotation
        if rotation is None:
            return self.taste(0)[users_R]
        turns, part = divmod(elapsed_d / rotation.period_d, 1.0)
        now_RC = self.taste(int(turns))[users_R]
        if rotation.move == "jump":
            return now_RC
        return (1 - part) * now_RC + part * self.taste(int(turns) + 1)[users_R]

    def _draw_taste(self, number: int) -> NDArray[np.float64]:
        """Draw taste `number` of all users, [U, C]."""
        base = self._settings.base
        rng = chance(base.seed, Use.TASTES, number)
        drawn_US = rng.integers(base.categories, size=(base.users, base.slots))
        weight_US = np.maximum(rng.standard_gamma(base.concentration, (base.users, base.slots)), 1e-300)
        mix_UC = np.zeros((base.users, base.categories))
        np.add.at(mix_UC, (np.arange(base.users)[:, None], drawn_US), weight_US)
        taste_UC: NDArray[np.float64] = mix_UC / mix_UC.sum(axis=1, keepdims=True)
        return taste_UC

    def visits(self) -> Visits:
        """Draw who comes when."""
        base = self._settings.base
        rng = chance(base.seed, Use.VISITS)
        length_N = _lengths(rng, base)
        last_N = np.cumsum(length_N)
        visit_R = np.repeat(np.arange(len(length_N)), length_N)[: base.events]
        user_N = np.searchsorted(np.cumsum(self.activity)[:-1], rng.random(len(length_N)), side="right")
        begun_N = rng.random(len(length_N)) * base.days * DAY_MS
        passed_R = np.cumsum(rng.standard_exponential(len(visit_R)) * base.session_gap_s * 1000)
        ts_R = begun_N[visit_R] + passed_R - passed_R[(last_N - length_N)[visit_R]]
        order_R = np.argsort(ts_R, kind="stable")
        return Visits(user_N[visit_R[order_R]], START_MS + _apart(ts_R[order_R].astype(np.int64)))


def _lengths(rng: np.random.Generator, base: Base) -> NDArray[np.int64]:
    """Draw the lengths of as many visits as give all events; the last one may be cut."""
    length_R = rng.geometric(1 / base.session, base.events)
    return length_R[: int(np.searchsorted(np.cumsum(length_R), base.events)) + 1]


def _apart(ts_ms_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move ascending times on where needed, so that each is later than the one before."""
    place_R = np.arange(len(ts_ms_R))
    return np.maximum.accumulate(ts_ms_R - place_R) + place_R
