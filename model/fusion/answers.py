"""The fused score in answers: what counts add to the encoder's score of each item, for one user.

n listed rows (loops.py), V live rows of items. What popularity adds is the same for all users with histories of one
class of length, so it is computed once; the listed rows of a user are few. Immutable once made but for memory that each
thread has for itself.
"""

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import under
from model.fusion import loops, tables
from model.fusion.counters import Counters
from model.fusion.log_linear import history_events, room_for

ALL, NEW = 0, 1  # heads of a snapshot: with the user's own items among the candidates, and without them


class Added(NamedTuple):
    """What counts add to the scores of one user."""

    encoder: float  # weight of the encoder's logit
    popular: NDArray[np.float32]  # for the live items in their order
    rows_n: NDArray[np.int64]  # listed rows of the item table, ascending
    listed_n: NDArray[np.float32]  # what is added besides


class CountedScores:
    """The counts and weights of a snapshot.

    Args:
        arrays: As LogLinear.snapshot_arrays returns them.
        live_V: The live rows.

    Raises:
        KeyError: An array is missing.
        ValueError: An array has another shape.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], live_V: NDArray[np.int64]) -> None:
        self._counters = Counters.from_state(under("counts.", arrays))
        self._weights = np.array(arrays["weights"])
        if self._weights.ndim != 3 or self._weights.shape[2] != 1 + self._counters.features.shape[1] + tables.LISTED:
            raise ValueError(f"the fusion's weights have the shape {self._weights.shape}")
        first = slice(1, 1 + self._counters.features.shape[1])
        self._view, self._own = self._counters.view(), threading.local()
        popular = self._counters.features[live_V]
        self._popular = [[(popular @ weights[first]).astype(np.float32) for weights in head] for head in self._weights]

    def added(self, history_n: NDArray[np.int64], acted_n: NDArray[np.bool_], now_ms: int, head: int) -> Added:
        """Return what counts add for a user.

        Args:
            history_n: Item rows of the user's tokens, oldest first.
            acted_n: Which of them are actions.
            now_ms: Time of the request.
            head: ALL or NEW.
        """
        events = history_events(history_n, acted_n, self._counters.weigh(np.array([now_ms]), move=False))
        kind = int(events.classes[0])
        weights = self._weights[head, kind]
        room = room_for(self._counters, events, 0, getattr(self._own, "room", None))
        self._own.room = room
        n = loops.listed(events, self._view, room)
        listed_n = room.features[:n, : tables.LISTED] @ weights[-tables.LISTED :]
        order = np.argsort(room.rows[:n])
        return Added(
            float(weights[tables.ENCODER]),
            self._popular[head][kind],
            room.rows[:n][order],
            listed_n[order].astype(np.float32),
        )

    def scores(
        self, rows_b: NDArray[np.int64], logit_b: NDArray[np.float32], added: Added, live_V: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the fused scores of some live rows."""
        place_b = np.searchsorted(live_V, rows_b)
        score_b = added.encoder * logit_b + added.popular[place_b]
        at_b = np.minimum(np.searchsorted(added.rows_n, rows_b), max(0, len(added.rows_n) - 1))
        if len(added.rows_n):
            score_b = score_b + np.where(added.rows_n[at_b] == rows_b, added.listed_n[at_b], np.float32(0))
        fused: NDArray[np.float32] = score_b.astype(np.float32)
        return fused

    def parts(
        self,
        rows_b: NDArray[np.int64],
        logit_b: NDArray[np.float32],
        history_n: NDArray[np.int64],
        acted_n: NDArray[np.bool_],
        now_ms: int,
        head: int,
    ) -> NDArray[np.float64]:
        """Return what each of log_linear.FEATURES adds to the scores of some rows, [b, features]."""
        events = history_events(history_n, acted_n, self._counters.weigh(np.array([now_ms]), move=False))
        room = room_for(self._counters, events, 0, getattr(self._own, "room", None))
        self._own.room = room
        place_of = {
            row: place for place, row in enumerate(room.rows[: loops.listed(events, self._view, room)].tolist())
        }
        listed = np.zeros((len(rows_b), tables.LISTED))
        for at, row in enumerate(rows_b.tolist()):
            if row in place_of:
                listed[at] = room.features[place_of[row], : tables.LISTED]
        feature_bF = np.concatenate((logit_b[:, None], self._counters.features[rows_b], listed), axis=1)
        parts_bF: NDArray[np.float64] = feature_bF * self._weights[head, int(events.classes[0])]
        return parts_bF
