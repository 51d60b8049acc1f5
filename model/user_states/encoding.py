"""The encoder's outputs that answers need: after a user's history, and of candidates after it.

n tokens of history, b candidates, D width, S layers, W width of a token's state.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network.recommender import Recommender
from model.user_states.cache import State, UserStates
from model.user_states.history import History
from model.user_states.stepwise import stepwise_of
from stream.example import Kind


class Encoded(NamedTuple):
    """The outputs of one pass."""

    query: Tensor  # [D], of unit length
    candidates: Tensor  # [b, D]
    state: State | None  # of the history, [S, n, W]; None where the encoder has no steps


class HistoryEncoder:
    """A recommender and its tables, which stay as they are.

    Args:
        recommender: Its dense part.
        item_RD: The items' vectors.
        feature_RD: The rows of the feature table.
        states: Where users' states are kept; None: nowhere.
    """

    def __init__(
        self, recommender: Recommender, item_RD: Tensor, feature_RD: Tensor, states: UserStates | None = None
    ) -> None:
        self._recommender, self._item_RD, self._feature_RD = recommender, item_RD, feature_RD
        self._steps = stepwise_of(recommender.encoder)
        self._states, self._owner = states, states.begin() if states else 0

    def encode(self, history: History, rows_b: NDArray[np.int64], now_ms: int) -> Encoded:
        """Encode a history, and candidates that are shown at its end, each as if it alone were.

        The state of its user is looked for and kept; the outputs are the same without it, to the bit.

        Args:
            history: At most max_len tokens, one less where there are candidates.
            rows_b: Item rows of the candidates.
            now_ms: Time of the request.
        """
        steps, states = self._steps, self._states
        if steps is None or not len(history):
            return self._whole(history, rows_b, now_ms)
        wanted = steps.steady(len(history))
        if states is None or not history.user or not wanted:
            return self.extended(history, rows_b, now_ms, None)
        known = states.get(self._owner, history, wanted)
        encoded = self.extended(history, rows_b, now_ms, known)
        if encoded.state is not None and (known is None or known.shape[1] < wanted):
            states.put(self._owner, history, np.ascontiguousarray(encoded.state[:, :wanted]))
        return encoded

    def forget(self, user: str) -> None:
        """Drop what is kept of a user."""
        if self._states:
            self._states.forget(user)

    def without(self, history: History, encoded: Encoded, place: int, now_ms: int) -> Encoded:
        """Encode a history without one of its tokens; `encoded` is what came of it with that token."""
        less = history.without(place)
        if encoded.state is None or self._steps is None or not len(less):
            return self._whole(less, np.empty(0, np.int64), now_ms)
        same = self._steps.steady(place)
        return self.extended(less, np.empty(0, np.int64), now_ms, encoded.state[:, :same])

    def extended(self, history: History, rows_b: NDArray[np.int64], now_ms: int, known: State | None) -> Encoded:
        """Encode what comes after the tokens whose state is known, if any is; the history has one token at least."""
        assert self._steps is not None
        known = self._steps.nothing if known is None else known
        p, n = known.shape[1], len(history)
        content_nD = self.content(history.items_n, history.features_n)
        action_mD = gather(self._feature_RD, history.actions_n[p:])
        kinds_n = torch.from_numpy(history.kinds_n)
        x_mD = self._recommender.embed(content_nD[p:], action_mD, kinds_n[p:], torch.arange(p, n))
        y_mD, state = self._steps.extend(x_mD, known, history, now_ms)
        last, bounds = torch.tensor([n - 1]), torch.tensor([0, n])
        query_D = self._recommender.with_recency(y_mD[-1:], last, content_nD, kinds_n, bounds)[0]
        return Encoded(query_D, self._after(history, rows_b, now_ms, state), state)

    def _after(self, history: History, rows_b: NDArray[np.int64], now_ms: int, state: State) -> Tensor:
        assert self._steps is not None
        item_bD = self._item_RD[torch.from_numpy(rows_b)]
        if not len(rows_b):
            return item_bD
        kinds_b, places_b = (torch.full((len(rows_b),), value) for value in (int(Kind.IMPRESSION), len(history)))
        x_bD = self._recommender.embed(item_bD, torch.zeros_like(item_bD), kinds_b, places_b)
        return self._steps.after(x_bD, state, history, now_ms)

    def _whole(self, history: History, rows_b: NDArray[np.int64], now_ms: int) -> Encoded:
        """Encode history and candidates in one go."""
        n, b = len(history), len(rows_b)
        none_b = np.full(b, -1)
        items_L, features_L, actions_L, ts_ms_L, kinds_L = (
            np.concatenate(columns)
            for columns in (
                (history.items_n, rows_b),
                (history.features_n, none_b),
                (history.actions_n, none_b),
                (history.ts_ms_n, np.full(b, now_ms)),
                (history.kinds_n, np.full(b, int(Kind.IMPRESSION))),
            )
        )
        y_LD = content_LD = self.content(items_L, features_L)
        if len(items_L):
            y_LD = self._recommender.encode(
                content_LD,
                gather(self._feature_RD, actions_L),
                torch.from_numpy(kinds_L),
                torch.from_numpy(ts_ms_L),
                torch.tensor([0, n + b]),
                torch.tensor([b]),
                request_ms=torch.tensor([now_ms]),
                read_R=torch.arange(max(0, n - 1), n + b),
            )
        bounds, last, kinds_n = torch.tensor([0, n]), torch.tensor([n - 1]), torch.from_numpy(history.kinds_n)
        query_D = self._recommender.queries(y_LD, last, content_LD[:n], kinds_n, bounds)[0]
        return Encoded(query_D, y_LD[n:], None)

    def content(self, items_n: NDArray[np.int64], features_n: NDArray[np.int64]) -> Tensor:
        """Return the tokens' rows of items and of features, [n, D]."""
        return gather(self._item_RD, items_n) + gather(self._feature_RD, features_n)


def gather(weight_RD: Tensor, rows_n: NDArray[np.int64]) -> Tensor:
    """Return rows, zeros for row -1, [n, D]."""
    known_n = rows_n >= 0
    if known_n.all():
        return weight_RD[torch.from_numpy(rows_n)]
    out_nD = torch.zeros(len(rows_n), weight_RD.shape[1])
    if known_n.any():
        out_nD[torch.from_numpy(known_n)] = weight_RD[torch.from_numpy(rows_n[known_n])]
    return out_nD
