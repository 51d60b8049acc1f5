"""Click probabilities: for each rank action a logistic regression over counts, and over a tower's logit, learnt online.

Counts and weights move with each request, event by event, and no gradient reaches the tower. A head has weights of its
own, with or without the tower. What is counted belongs to items; what belongs to a user is taken from the history that
comes with the impression. Memory is bounded by the number of items: A + 1 counts and at most LIMIT pairs each of two
kinds; and by that of the catalogue's values: A + 1 counts. All counts fade with one half-life.

T impressions, A rank actions, H heads, F features, V items, L tokens, R rows of the feature table.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import have_room, lengthen
from model.arrays.state import prefixed, under
from model.counting.pair_counts import LIMIT, PairCounts
from model.data.event_time import DAY_MS
from model.errors import DivergedError
from model.fusion import click_loops
from model.fusion.click_tables import (
    DISTINCT,
    FEATURES,
    ITEM_RATE,
    LAGS,
    TOWER,
    USED_ACTED,
    USED_SHOWN,
    VARIANCE,
    ClickCounts,
    ClickHeads,
    Fades,
    Impressions,
    ItemValues,
)

HALF_LIFE_MS: Final = 90 * DAY_MS
_TOWER_AT_FIRST: Final = 0.5
_NOTHING_SAID: Final = ItemValues(np.empty((0, 0), np.int32), np.empty((0, 0), np.float32))


class Clicks:
    """Weights of some heads, and the counts that they share.

    Args:
        actions: The number of rank actions.
        towers: For each head, whether the tower's logit is a feature.
    """

    def __init__(self, actions: int, towers: Sequence[bool]) -> None:
        shape = len(towers), actions, len(FEATURES)
        weights = np.zeros(shape)
        weights[:, :, ITEM_RATE] = 1.0
        with_tower_H = np.array(towers, np.bool_)
        weights[with_tower_H, :, TOWER] = _TOWER_AT_FIRST
        covariances = np.zeros((*shape, shape[-1])) + VARIANCE * np.eye(shape[-1])
        covariances[~with_tower_H, :, TOWER, TOWER] = 0.0
        self._heads = ClickHeads(weights, covariances)
        self._len = self._values = 0
        self._views, self._acts, self._totals = np.empty(0), np.empty((0, actions)), np.zeros(1 + actions)
        self._shown, self._acted = PairCounts(HALF_LIFE_MS), PairCounts(HALF_LIFE_MS)
        self._shown_totals, self._acted_totals = np.zeros(1), np.zeros(1)
        self._value_views, self._value_acts, self._described = np.empty(0), np.empty((0, actions)), np.zeros(1)
        self._facts = np.zeros(3, np.int64)

    def grow(self, rows: int, values: int = 0) -> None:
        """Have rows for at least so many items, and for so many values of the catalogue; new ones count 0."""
        if values > self._values:
            self._values = values
            have_room(vars(self), values, "_value_views", "_value_acts")
        if rows <= self._len:
            return
        self._len = rows
        have_room(vars(self), rows, "_views", "_acts")
        for name in ("_shown_totals", "_acted_totals"):
            last, total = len(vars(self)[name]) - 1, vars(self)[name][-1]
            lengthen(vars(self), len(self._views) + 1, name)
            vars(self)[name][last] = 0.0
            vars(self)[name][-1] = total
        for pairs in (self._shown, self._acted):
            pairs.grow(rows)

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Drop the counts of items that have died, and their pairs with others; their values keep what is counted."""
        rows = rows[rows < self._len]
        self._facts[DISTINCT] -= int((self._views[rows] > 0).sum())
        self._views[rows], self._acts[rows] = 0.0, 0.0
        self._totals[0], self._totals[1:] = self._views[: self._len].sum(), self._acts[: self._len].sum(0)
        for pairs, totals in ((self._shown, self._shown_totals), (self._acted, self._acted_totals)):
            pairs.forget(rows)
            totals[rows] = 0.0
            totals[-1] = totals[: self._len].sum()

    def _fades(self, ts_ms_T: NDArray[np.int64], *, move: bool) -> Fades:
        """Return how counts fade; with `move` the clock's origin moves if it has to, without it nothing is counted."""
        clock = self._shown.clock
        if not (move and len(ts_ms_T)):
            return Fades(np.zeros(len(ts_ms_T)), clock.factors(ts_ms_T))
        if step := self._shown.advance(newest_ms := int(ts_ms_T.max())):
            self._acted.advance(newest_ms)
            of_items = self._views, self._acts, self._totals, self._shown_totals, self._acted_totals
            for sums in (*of_items, self._value_views, self._value_acts, self._described):
                sums[:] = np.ldexp(sums, step)
        return Fades(clock.weights(ts_ms_T), clock.factors(ts_ms_T))

    def step(
        self,
        asked: Impressions,
        request_ms_T: NDArray[np.int64],
        values: ItemValues = _NOTHING_SAID,
        *,
        learn: bool,
    ) -> NDArray[np.float64]:
        """Answer each impression, then learn it, one request after the other; return the logits, [H, T, A].

        Args:
            asked: The impressions.
            request_ms_T: When they were asked for.
            values: What the catalogue says of the items.
            learn: Whether weights and counts move.

        Raises:
            DivergedError: A logit or a weight is not finite.
        """
        asked = asked._replace(towers=np.ascontiguousarray(asked.towers))  # loops are compiled for one order
        heads, (count, actions) = self._heads, asked.labels.shape
        logits_HTA, base_TA = np.zeros((len(heads.weights), count, actions)), np.empty((count, actions))
        features_TAF, own_RA = np.empty((count, actions, len(FEATURES))), np.zeros((self._values, 1 + actions))
        fades = self._fades(request_ms_T, move=learn)
        largest = int(np.unique(asked.groups, return_counts=True)[1].max(initial=1))
        at = 0
        while at < count:
            if learn:
                self._make_room(2 * LAGS * LIMIT * largest)
            at = click_loops.run(
                at, learn, asked, values, fades, self._view(), heads, own_RA, features_TAF, base_TA, logits_HTA, LIMIT
            )  # fmt: skip
            self._shown.used, self._acted.used = int(self._facts[USED_SHOWN]), int(self._facts[USED_ACTED])
        if not (np.isfinite(logits_HTA).all() and np.isfinite(heads.weights).all()):
            raise DivergedError(
                "training has diverged: a click probability of counts fused with the tower is not a number; "
                "lower train.learning_rate."
            )
        return logits_HTA

    def _make_room(self, free: int) -> None:
        for pairs in (self._shown, self._acted):
            if pairs.used + free > len(pairs.columns.columns):
                pairs.make_room(free)

    def _view(self) -> ClickCounts:
        self._facts[USED_SHOWN], self._facts[USED_ACTED] = self._shown.used, self._acted.used
        return ClickCounts(
            self._views,
            self._acts,
            self._totals,
            self._facts,
            self._shown.columns,
            self._shown.rooms,
            self._shown_totals,
            self._acted.columns,
            self._acted.rooms,
            self._acted_totals,
            self._value_views,
            self._value_acts,
            self._described,
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint; some are views."""
        return {**self._heads._asdict(), **prefixed("counts.", self._counts())}

    def _counts(self) -> dict[str, NDArray[Any]]:
        return {
            "views": self._views[: self._len],
            "acts": self._acts[: self._len],
            "totals": self._totals,
            "distinct": self._facts[DISTINCT:],
            "shown_totals": np.concatenate((self._shown_totals[: self._len], self._shown_totals[-1:])),
            "acted_totals": np.concatenate((self._acted_totals[: self._len], self._acted_totals[-1:])),
            "value_views": self._value_views[: self._values],
            "value_acts": self._value_acts[: self._values],
            "described": self._described,
            **prefixed("shown.", self._shown.state()),
            **prefixed("acted.", self._acted.state()),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds."""
        for name, array in self._heads._asdict().items():
            array[:] = state[name]
        counts = under("counts.", state)
        self._views, self._acts, self._totals = (np.array(counts[name]) for name in ("views", "acts", "totals"))
        self._value_views, self._value_acts = np.array(counts["value_views"]), np.array(counts["value_acts"])
        self._described = np.array(counts["described"])
        self._len, self._values = len(self._views), len(self._value_views)
        self._facts[DISTINCT:] = counts["distinct"]
        self._shown_totals, self._acted_totals = (np.array(counts[f"{name}_totals"]) for name in ("shown", "acted"))
        self._shown, self._acted = (PairCounts.from_state(under(f"{name}.", counts)) for name in ("shown", "acted"))

    def snapshot_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what answers need: the weights of the first head, and the counts."""
        return {"weights": self._heads.weights[:1], **prefixed("counts.", self._counts())}

    @classmethod
    def from_snapshot(cls, arrays: Mapping[str, NDArray[Any]]) -> "Clicks":
        """Return the model of a snapshot, which has one head, with the tower.

        Raises:
            KeyError: An array is missing.
            ValueError: An array has another shape.
        """
        weights = arrays["weights"]
        if weights.ndim != 3 or weights.shape[2] != len(FEATURES):
            raise ValueError(f"the weights of click probabilities have the shape {weights.shape}")
        new = cls(weights.shape[1], [True])
        new.load_state({**arrays, "covariances": np.zeros((*weights.shape, weights.shape[2]))})
        return new

    @classmethod
    def towers_alone(cls, actions: int, items: int, values: int) -> dict[str, NDArray[Any]]:
        """Return the snapshot of a model that has counted nothing and leaves the towers' logits as they are."""
        new = cls(actions, [True])
        new.grow(items, values)
        new._heads.weights[:] = 0.0
        new._heads.weights[:, :, TOWER] = 1.0
        return new.snapshot_arrays()
