"""Scores of a snapshot's model for one user's tokens. Items and features are rows of their tables here.

n tokens of history, b candidates, L = n + b, D width, R rows of the item table, V live rows among them, A rank actions.
Everything is immutable once made, so that threads can share it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from model.arrays.state import under
from model.config import ModelSettings
from model.data.catalogue import Catalogue
from model.data.item_features import Bags, ItemFeatures
from model.data.stand_ins import StandIns
from model.data.vocabulary import Vocabulary
from model.errors import ModelError
from model.fusion.answers import ALL, NEW, Added, CountedScores
from model.fusion.click_tables import Impressions, whats
from model.fusion.clicks import Clicks
from model.network.item_vectors import item_vectors
from model.network.ranking.history import Tokens, candidates_of, histories
from model.network.recommender import Recommender
from model.network.retrieval_loss import unit
from model.serving.top_k import Extra, best, rounded
from model.storage.snapshot import Snapshot
from stream.example import NO_KEY, Kind, id_key


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A user's tokens that the snapshot knows, oldest first."""

    items_n: NDArray[np.int64]  # rows of items, -1 for attributes and items without one
    features_n: NDArray[np.int64]  # rows of the feature table: attributes, and what stands in for such items; else -1
    actions_n: NDArray[np.int64]  # of the feature table, -1 where there is none or it is unknown
    ts_ms_n: NDArray[np.int64]
    kinds_n: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.items_n)

    def last(self, count: int) -> "History":
        """Return the last tokens, fewer if there are fewer."""
        start = max(0, len(self) - count)
        columns = self.items_n, self.features_n, self.actions_n, self.ts_ms_n, self.kinds_n
        return History(*(column[start:] for column in columns))

    def without(self, place: int) -> "History":
        """Return all tokens but one."""
        columns = self.items_n, self.features_n, self.actions_n, self.ts_ms_n, self.kinds_n
        return History(*(np.delete(column, place) for column in columns))

    def acted_on(self) -> NDArray[np.int64]:
        """Return the item rows of the actions."""
        rows: NDArray[np.int64] = self.items_n[(self.kinds_n == Kind.ACTION) & (self.items_n >= 0)]
        return rows


class Scores(NamedTuple):
    """Scores of b candidates."""

    probabilities: NDArray[np.float32]  # [b, A]
    retrieval: NDArray[np.float32]  # [b]


class Ablation(NamedTuple):
    """What makes up the scores of b candidates, and what each of m events moves."""

    parts: NDArray[np.float64]  # [b, features] that add up to the score; their names: model/fusion/log_linear.FEATURES
    changes: NDArray[np.float64]  # [m, b] the score less that without the event, newest event first


class Scorer:
    """A snapshot's model, vocabularies and live items.

    Raises:
        ModelError: The arrays are not those of a recommender with the snapshot's settings.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        arrays = snapshot.arrays
        try:
            self.settings = ModelSettings.model_validate(snapshot.manifest.settings.get("model", {}))
            self.items = Vocabulary.from_state(under("items.", arrays))
            self.features = Vocabulary.from_state(under("features.", arrays))
            self._stand_ins = self._standing_in(snapshot.manifest.settings.get("train", {}))
            self._catalogue = Catalogue.from_state(under("catalogue.", arrays)) if self._stand_ins else None
            self._recommender = _recommender(self.settings, under("recommender.", arrays))
            self.live_V: NDArray[np.int64] = self.items.live().astype(np.int64)
            self._counted = CountedScores(under("fusion.", arrays), self.live_V)
            self._clicks = Clicks.from_snapshot(under("clicks.", arrays))
            own_RD = _weight(arrays["items.weight"], len(self.items), self.settings.dim)
            self._feature_RD = _weight(arrays["features.weight"], len(self.features), self.settings.dim)
            self._item_RD = item_vectors(own_RD, self._feature_RD, _bags(under("item_features.", arrays)))
        except (KeyError, ValueError, RuntimeError, ValidationError) as error:
            raise ModelError(
                f"The snapshot {snapshot.path} cannot answer: {_first_line(error)}; it was written by another version, "
                "or by hand. Take another snapshot."
            ) from error
        self._live_VD = unit(self._item_RD[torch.from_numpy(self.live_V)])
        self._coarse = rounded(self._live_VD)

    def _standing_in(self, train: Mapping[str, Any]) -> StandIns | None:
        """Return what stands in for items without a row; None where these are left out."""
        dropped = train.get("unknown_items") == "dropped"
        found = StandIns(0 if dropped else train.get("stand_ins", 0), self.settings.item_features)
        return found if len(found.keys) and (self.features.rows(found.keys) >= 0).all() else None

    def knows(self, tokens: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which tokens (TOKEN_DTYPE) are in the history that is made of them."""
        items, features = self._rows(tokens)
        known: NDArray[np.bool_] = (items >= 0) | (features >= 0)
        return known

    def _rows(self, tokens: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each token's row of the item table and of the feature table, -1 for none."""
        is_attribute = tokens["kind"] == Kind.ATTRIBUTE
        items = np.where(is_attribute, -1, self.items.rows(tokens["key"]))
        features = np.where(is_attribute, self.features.rows(tokens["key"]), -1)
        if self._stand_ins:
            unknown = ~is_attribute & (items < 0)
            features[unknown] = self._stand_ins.rows(tokens["key"][unknown], self.features, self._catalogue)
        return items, features

    def history(self, tokens: NDArray[Any]) -> History:
        """Return tokens (TOKEN_DTYPE, oldest first) as rows.

        An item that the snapshot does not know is left out, unless it has a row that stands in for such items.
        """
        kinds = tokens["kind"].astype(np.int64)
        items, features = self._rows(tokens)
        actions = np.where(tokens["action"] == NO_KEY, -1, self.features.rows(tokens["action"]))
        known = (items >= 0) | (features >= 0)
        ts_ms = tokens["ts_ms"].astype(np.int64)
        return History(items[known], features[known], actions[known], ts_ms[known], kinds[known])

    def topk(
        self,
        history: History,
        now_ms: int,
        k: int,
        excluded: NDArray[np.int64],
        barred: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the live rows that score best, except the excluded ones, and their scores; best first, ties by row.

        Where some are excluded, the weights are those learnt among items that are new to the user. Barred rows are left
        out as well, and change no weights.
        """
        history = history.last(self.settings.max_len)
        added = self._added(history, now_ms, NEW if len(excluded) else ALL)
        query_D = self._query(history, now_ms) * (added.encoder / self.settings.temperature)
        at_n = np.searchsorted(self.live_V, added.rows_n)
        among_n = at_n < len(self.live_V)
        among_n[among_n] = self.live_V[at_n[among_n]] == added.rows_n[among_n]
        extra = Extra(added.popular, at_n[among_n], added.listed_n[among_n])
        with torch.inference_mode():
            out = excluded if barred is None else np.concatenate((excluded, barred))
            scores, at = best(self._live_VD, query_D, k, self.live_positions(out), extra, self._coarse)
        return self.live_V[at], scores

    def _added(self, history: History, now_ms: int, head: int) -> Added:
        known_n = history.items_n >= 0
        acted_n = history.kinds_n[known_n] == Kind.ACTION
        return self._counted.added(history.items_n[known_n], acted_n, now_ms, head)

    def live_positions(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of these rows in live_V, sorted; rows that are not live have none."""
        rows = np.unique(rows)
        at = np.searchsorted(self.live_V, rows)
        inside = at < len(self.live_V)
        found: NDArray[np.int64] = at[inside][self.live_V[at[inside]] == rows[inside]]
        return found

    def _query(self, history: History, now_ms: int) -> Tensor:
        with torch.inference_mode():
            return self._asked(history, *self._encode(history, np.empty(0, np.int64), now_ms))

    def rank(self, history: History, rows_b: NDArray[np.int64], now_ms: int) -> Scores:
        """Score candidates in one pass, each as if it alone were shown now, after the history."""
        history = history.last(self.settings.max_len - 1)  # the candidates share the last position
        with torch.inference_mode():
            y_LD, content_LD = self._encode(history, rows_b, now_ms)
            query_D, item_bD = self._asked(history, y_LD, content_LD), self._item_RD[torch.from_numpy(rows_b)]
            logits_bA = self._rank_logits(history, rows_b, now_ms, y_LD[len(history) :], query_D)
            logit_b = (unit(item_bD) @ query_D / self.settings.temperature).numpy()
        fused_b = self._counted.scores(rows_b, logit_b, self._added(history, now_ms, ALL), self.live_V)
        return Scores(self._probabilities(history, rows_b, logits_bA.numpy(), now_ms), fused_b)

    def _rank_logits(
        self, history: History, rows_b: NDArray[np.int64], now_ms: int, y_bD: Tensor, query_D: Tensor
    ) -> Tensor:
        """Return the logits of towers, or of a model that only ranks, [b, A]."""
        items_b, ranker, n = torch.from_numpy(rows_b), self._recommender.ranker, len(history)
        if ranker is None:
            return self._recommender.rank_logits(y_bD, query_D.expand_as(y_bD), self._item_RD[items_b])
        tokens = Tokens(
            self._content(history.items_n, history.features_n),
            _gather(self._feature_RD, history.actions_n),
            torch.from_numpy(history.items_n),
            torch.from_numpy(history.kinds_n),
            torch.from_numpy(history.ts_ms_n),
            torch.tensor([0, n]),
        )
        asked = histories(tokens, torch.tensor([n - 1]), torch.tensor([now_ms]), ranker.behaviours)
        logits_bA: Tensor = ranker(asked, candidates_of(self._item_RD[items_b], items_b, torch.zeros_like(items_b)))
        return logits_bA

    def ablated(self, history: History, rows_b: NDArray[np.int64], now_ms: int, head: int, newest: int) -> "Ablation":
        """Score candidates as topk does, and again without each of the newest events, a pass of the encoder each.

        Nothing takes the place of the event that is left out.
        """
        history = history.last(self.settings.max_len)
        left_out = range(len(history) - 1, max(-1, len(history) - 1 - newest), -1)
        histories = [history, *(history.without(place) for place in left_out)]
        item_bD = unit(self._item_RD[torch.from_numpy(rows_b)])
        parts = [self._parts(each, item_bD, rows_b, now_ms, head) for each in histories]
        total_b = parts[0].sum(1)
        changes = np.array([total_b - less.sum(1) for less in parts[1:]]).reshape(len(left_out), len(rows_b))
        return Ablation(parts[0], changes)

    def _parts(
        self, history: History, item_bD: Tensor, rows_b: NDArray[np.int64], now_ms: int, head: int
    ) -> NDArray[np.float64]:
        with torch.inference_mode():
            logit_b = (item_bD @ self._query(history, now_ms) / self.settings.temperature).numpy()
        known_n = history.items_n >= 0
        acted_n = history.kinds_n[known_n] == Kind.ACTION
        return self._counted.parts(rows_b, logit_b, history.items_n[known_n], acted_n, now_ms, head)

    def similar(self, row: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the live rows whose vectors are most like a row's, itself left out, and the cosines."""
        item_D = unit(self._item_RD[row])
        scores, at = best(self._live_VD, item_D, k, self.live_positions(np.array([row])), coarse=self._coarse)
        return self.live_V[at], scores

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the unit vectors of rows, [n, D]."""
        vector_nD: NDArray[np.float32] = unit(self._item_RD[torch.from_numpy(rows)]).numpy()
        return vector_nD

    def _probabilities(
        self, history: History, rows_b: NDArray[np.int64], tower_bA: NDArray[np.float32], now_ms: int
    ) -> NDArray[np.float32]:
        """Return the probability of each rank action, each candidate at the first place of a slate, [b, A]."""
        b, n, actions = len(rows_b), len(history), self.settings.rank_actions
        ranked_A = self.features.rows(np.array([id_key(action) for action in actions], np.uint64))
        zeros_b = np.zeros(b, np.int64)
        asked = Impressions(
            targets=rows_b,
            groups=zeros_b,
            starts=zeros_b,
            queries=np.full(b, n - 1),
            places=zeros_b,
            labels=np.zeros(tower_bA.shape, np.bool_),
            towers=tower_bA.astype(np.float64),
            rows=history.items_n,
            whats=whats(history.kinds_n, history.actions_n, np.where(ranked_A < 0, -2, ranked_A)),
        )
        logits_bA = self._clicks.step(asked, np.full(b, now_ms), learn=False)[0]
        probability_bA: NDArray[np.float32] = np.exp(-np.logaddexp(0, -logits_bA)).astype(np.float32)
        return probability_bA

    def _asked(self, history: History, y_LD: Tensor, content_LD: Tensor) -> Tensor:
        """Return the query after the history, [D], from the encoder's input and output that begin with the history."""
        n = len(history)
        bounds, last, kinds_n = torch.tensor([0, n]), torch.tensor([n - 1]), torch.from_numpy(history.kinds_n)
        return self._recommender.queries(y_LD, last, content_LD[:n], kinds_n, bounds)[0]

    def _encode(self, history: History, rows_b: NDArray[np.int64], now_ms: int) -> tuple[Tensor, Tensor]:
        """Return the encoder's output at the history, then at the candidates, and the items it was of, [L, D] each."""
        b = len(rows_b)
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
        content_LD = self._content(items_L, features_L)
        if not len(items_L):
            return content_LD, content_LD
        y_LD = self._recommender.encode(
            content_LD,
            _gather(self._feature_RD, actions_L),
            torch.from_numpy(kinds_L),
            torch.from_numpy(ts_ms_L),
            torch.tensor([0, len(items_L)]),
            torch.tensor([b]),
            request_ms=torch.tensor([now_ms]),
        )
        return y_LD, content_LD

    def _content(self, items_L: NDArray[np.int64], features_L: NDArray[np.int64]) -> Tensor:
        return _gather(self._item_RD, items_L) + _gather(self._feature_RD, features_L)


def _gather(weight_RD: Tensor, rows_L: NDArray[np.int64]) -> Tensor:
    """Return rows, zeros for row -1, [L, D]."""
    known_L = rows_L >= 0
    if known_L.all():
        return weight_RD[torch.from_numpy(rows_L)]
    out_LD = torch.zeros(len(rows_L), weight_RD.shape[1])
    if known_L.any():
        out_LD[torch.from_numpy(known_L)] = weight_RD[torch.from_numpy(rows_L[known_L])]
    return out_LD


def _recommender(settings: ModelSettings, state: dict[str, NDArray[Any]]) -> Recommender:
    recommender = Recommender(settings, seed=0)
    recommender.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return recommender.eval().requires_grad_(False)


def _bags(state: Mapping[str, NDArray[Any]]) -> Bags:
    features = ItemFeatures()
    features.load_state(state)
    return features.bags(np.arange(len(features.rows)))


def _weight(array: NDArray[Any], rows: int, dim: int) -> Tensor:
    if array.shape != (rows, dim):
        raise ValueError(f"a table has the shape {array.shape} where {(rows, dim)} is wanted")
    return torch.from_numpy(array.astype(np.float32, copy=False))


def _first_line(error: Exception) -> str:
    text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return " ".join(text.split())[:300]
