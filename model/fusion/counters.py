"""The counts behind a log-linear model, moved event by event: popularities, pairs, nearest histories; their state.

V items, P popularities, T events. Popularity is counted with several half-lives side by side; pairs (what goes together
with an item, what follows it) with one. Memory is bounded by the number of items: P counts and features of each, and at
most 2,048 pairs of an item, fewer where there are more than 2,048 items, 256 from 16,384 items on
(tables.pairs_of_item). Histories are bounded whatever the number of users (model/counting/neighbours.py).
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import have_room
from model.arrays.state import prefixed, under
from model.counting.decay import DecayClock
from model.counting.neighbours import Neighbours
from model.counting.pair_counts import PairCounts
from model.data.event_time import DAY_MS, HOUR_MS
from model.fusion.tables import (
    DISTINCT,
    EVENTS,
    LAGS,
    POPULARITIES,
    REFRESH_AT,
    USED_FOLLOWING,
    USED_TOGETHER,
    Counts,
    pairs_of_item,
)

HALF_LIVES_MS: Final = (HOUR_MS, 6 * HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS, 10**6 * DAY_MS)  # the last: never
PAIR_HALF_LIFE_MS: Final = 1000 * DAY_MS
_BLOCK: Final = 4096  # items whose features are updated at a time, so that what lies between stays in the cache
REFRESH: Final = 64  # events between two updates of all popularity features; an event updates its own item's at once


assert len(HALF_LIVES_MS) == POPULARITIES


class Weights(NamedTuple):
    """How much occurrences at some times weigh, as of the clocks' origins."""

    popularity: NDArray[np.float64]  # [T, P]
    pairs: NDArray[np.float64]  # [T]
    factors: NDArray[np.float64]  # [T] by which pair counts become counts as of these times


class Counters:
    """All counts."""

    def __init__(self) -> None:
        self._len = 0
        self._clocks = [DecayClock(half_life_ms) for half_life_ms in HALF_LIVES_MS]
        self._sums, self._totals = np.empty((0, len(HALF_LIVES_MS))), np.zeros(len(HALF_LIVES_MS))
        self.features = np.empty((0, len(HALF_LIVES_MS)), np.float32)
        self._together, self._following = PairCounts(PAIR_HALF_LIFE_MS), PairCounts(PAIR_HALF_LIFE_MS)
        self._together_totals, self._together_roots, self._following_totals = np.empty(0), np.empty(0), np.empty(0)
        self.neighbours = Neighbours()
        self._facts = np.zeros(5, np.int64)
        self._facts[REFRESH_AT] = REFRESH

    def grow(self, rows: int) -> None:
        """Have at least `rows` rows; new ones count 0."""
        self._len = max(self._len, rows)
        have_room(vars(self), rows, "_sums", "features", "_together_totals", "_together_roots", "_following_totals")
        self._together.grow(rows)
        self._following.grow(rows)
        self.neighbours.grow(rows)

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Drop the counts of items that have died, and their pairs with others.

        What other items have counted together stays in their totals, as that of pairs dropped for want of room does.
        """
        rows = rows[rows < self._len]
        self._facts[DISTINCT] -= int((self._sums[rows] > 0).any(1).sum())
        self._sums[rows], self.features[rows] = 0.0, 0.0
        self._totals[:] = self._sums[: self._len].sum(0)
        for totals in (self._together_totals, self._together_roots, self._following_totals):
            totals[rows] = 0.0
        for pairs in (self._together, self._following):
            pairs.forget(rows)
        self.neighbours.forget(rows)

    def weigh(self, ts_ms_T: NDArray[np.int64], *, move: bool) -> Weights:
        """Return the weights of occurrences, for which origins move if they have to; without `move` these are 0."""
        factor_T, count = self._together.clock.factors(ts_ms_T), len(ts_ms_T)
        if not (move and count):
            return Weights(np.zeros((count, len(self._clocks))), np.zeros(count), factor_T)
        self._advance(int(ts_ms_T.max()))
        popularity = np.stack([each.weights(ts_ms_T) for each in self._clocks], 1)
        clock = self._together.clock
        return Weights(popularity, clock.weights(ts_ms_T), clock.factors(ts_ms_T))

    def _advance(self, newest_ms: int) -> None:
        for p, clock in enumerate(self._clocks):
            if step := clock.advance(newest_ms):
                self._sums[:, p] = np.ldexp(self._sums[:, p], step)
                self._totals[p] = np.ldexp(self._totals[p], step)
        self._following.advance(newest_ms)
        if step := self._together.advance(newest_ms):
            self._together_totals = np.ldexp(self._together_totals, step)
            self._together_roots = np.sqrt(self._together_totals)
            self._following_totals = np.ldexp(self._following_totals, step)

    def view(self) -> Counts:
        """Return all counts as the loops read and write them; call `written` after they have been written."""
        self._facts[USED_TOGETHER], self._facts[USED_FOLLOWING] = self._together.used, self._following.used
        return Counts(
            self._sums,
            self._totals,
            self.features,
            self._facts,
            self._together.columns,
            self._together.rooms,
            self._together_roots,
            self._together_totals,
            self._following.columns,
            self._following.rooms,
            self._following_totals,
            self.neighbours.histories,
        )

    def written(self) -> None:
        """Take over what the loops have changed."""
        self._together.used, self._following.used = (int(self._facts[used]) for used in (USED_TOGETHER, USED_FOLLOWING))

    def make_ready(self, events: int) -> bool:
        """Refresh what is due, and have room for the pairs of some events; return whether features were refreshed."""
        free = 2 * LAGS * pairs_of_item(self._facts) * events
        for pairs in (self._together, self._following):
            if pairs.used + free > len(pairs.columns.columns):
                pairs.make_room(free)
        if self._facts[EVENTS] < self._facts[REFRESH_AT]:
            return False
        self._facts[REFRESH_AT] += REFRESH
        scale, share_bP = 10.0 * self._facts[DISTINCT], np.zeros((_BLOCK, len(self._totals)))
        counted_P = True if (self._totals > 0).all() else self._totals > 0  # a mask is several times as slow
        for start in range(0, self._len, _BLOCK):
            sums_bP = self._sums[start : min(start + _BLOCK, self._len)]
            part = np.divide(sums_bP, self._totals, out=share_bP[: len(sums_bP)], where=counted_P)
            part *= scale
            self.features[start : start + len(part)] = np.log1p(part, out=part)
        return True

    @property
    def events(self) -> int:
        """The number of events counted."""
        return int(self._facts[EVENTS])

    def popularity(self) -> NDArray[np.float64]:
        """Return each item's share of what was counted lately, [V]."""
        sums_V: NDArray[np.float64] = self._sums[: self._len, HALF_LIVES_MS.index(7 * DAY_MS)]
        return sums_V / (sums_V.sum() or 1.0)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint; some are views."""
        return {
            "sums": self._sums[: self._len],
            "totals": self._totals,
            "features": self.features[: self._len],
            "origins": np.array([clock.origin for clock in self._clocks], np.int64),
            "facts": self._facts[:USED_TOGETHER],
            "together_totals": self._together_totals[: self._len],
            "following_totals": self._following_totals[: self._len],
            **prefixed("together.", self._together.state()),
            **prefixed("following.", self._following.state()),
            **prefixed("neighbours.", self.neighbours.state()),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "Counters":
        """Return the counts of a state."""
        new = cls()
        for clock, origin in zip(new._clocks, state["origins"].tolist(), strict=True):
            clock.origin = origin
        new._sums, new._totals = np.array(state.get("sums", np.zeros(state["features"].shape))), state["totals"]
        new._totals, new.features = np.array(new._totals), np.array(state["features"])
        new._facts[:USED_TOGETHER] = state["facts"]
        new._together_totals, new._following_totals = (
            np.array(state[name]) for name in ("together_totals", "following_totals")
        )
        new._together_roots = np.sqrt(new._together_totals)
        new._together = PairCounts.from_state(under("together.", state))
        new._following = PairCounts.from_state(under("following.", state))
        new.neighbours = Neighbours.from_state(under("neighbours.", state))
        new._len = len(new._sums)
        return new
