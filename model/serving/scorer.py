"""Scores of a snapshot's model for one user's tokens. Items and features are rows of their tables here.

n tokens of history, b candidates, L = n + b, D width, R rows of the item table, V live rows among them, A rank actions.
Everything is immutable once made, so that threads can share it.
"""

from collections.abc import Mapping, Sequence
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
from model.fusion.click_tables import Impressions, ItemValues, whats
from model.fusion.clicks import Clicks
from model.keys.frozen_vectors import FrozenVectors
from model.network.item_vectors import item_vectors
from model.network.ranking.history import Tokens, candidates_of, histories
from model.network.recommender import Recommender
from model.network.retrieval_loss import unit
from model.serving.responses import ReadAs
from model.serving.top_k import Extra, best, rounded
from model.storage.snapshot import Snapshot
from model.user_states.cache import UserStates
from model.user_states.encoding import Encoded, HistoryEncoder, gather
from model.user_states.history import History
from stream.example import NO_KEY, TOKEN_DTYPE, Kind, id_key


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

    Args:
        snapshot: Loaded and verified.
        states: Where users' states are kept from one question to the next; None: nowhere.

    Raises:
        ModelError: The arrays are not those of a recommender with the snapshot's settings.
    """

    def __init__(self, snapshot: Snapshot, states: UserStates | None = None) -> None:
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
            item_features = ItemFeatures()
            item_features.load_state(under("item_features.", arrays))
            self._values = ItemValues(**item_features.state())
            self._item_RD = item_vectors(own_RD, self._feature_RD, _bags(item_features))
            self._frozen = FrozenVectors(self.settings.dim)
            self._frozen.load_state(under("frozen.", arrays))
            frozen_SD = _weight(self._frozen.vectors, len(self._frozen), self.settings.dim)
            self._feature_RD = torch.cat((self._feature_RD, frozen_SD)) if len(frozen_SD) else self._feature_RD
        except (KeyError, ValueError, RuntimeError, ValidationError) as error:
            raise ModelError(
                f"The snapshot {snapshot.path} cannot answer: {_first_line(error)}; it was written by another version, "
                "or by hand. Take another snapshot."
            ) from error
        self._encoder = HistoryEncoder(self._recommender, self._item_RD, self._feature_RD, states)
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
        """Return each token's row of the item table and of the feature table, -1 for none.

        Vectors of the dead are rows of the feature table after all others.
        """
        is_attribute = tokens["kind"] == Kind.ATTRIBUTE
        items = np.where(is_attribute, -1, self.items.rows(tokens["key"]))
        features = np.where(is_attribute, self.features.rows(tokens["key"]), -1)
        if self._stand_ins:
            unknown = ~is_attribute & (items < 0)
            features[unknown] = self._stand_ins.rows(tokens["key"][unknown], self.features, self._catalogue)
        places = np.where(is_attribute | (items >= 0), -1, self._frozen.rows(tokens["key"]))
        features[places >= 0] = len(self.features) + places[places >= 0]
        return items, features

    def read_as(self, ids: Sequence[str]) -> dict[str, ReadAs]:
        """Return what items without a row are in a history, by id; those that are left out are not among them."""
        tokens = np.zeros(len(ids), TOKEN_DTYPE)
        tokens["key"], tokens["kind"] = [id_key(text) for text in ids], Kind.ACTION
        place_n = self._rows(tokens)[1]
        ways: list[ReadAs] = ["frozen" if place >= len(self.features) else "stand_in" for place in place_n.tolist()]
        return {text: way for text, way, place in zip(ids, ways, place_n.tolist(), strict=True) if place >= 0}

    def history(self, tokens: NDArray[Any], user: str = "") -> History:
        """Return tokens (TOKEN_DTYPE, oldest first) as rows; under a user's name the state is kept between requests.

        An item that the snapshot does not know is left out, unless it has a vector of its death or a stand-in.
        """
        if not len(tokens):
            self._encoder.forget(user)
        kinds = tokens["kind"].astype(np.int64)
        items, features = self._rows(tokens)
        actions = np.where(tokens["action"] == NO_KEY, -1, self.features.rows(tokens["action"]))
        known = (items >= 0) | (features >= 0)
        ts_ms = tokens["ts_ms"].astype(np.int64)
        return History(items[known], features[known], actions[known], ts_ms[known], kinds[known], user=user)

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
        query_D = self._encoded(history, now_ms).query * (added.encoder / self.settings.temperature)
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

    def _encoded(self, history: History, now_ms: int) -> Encoded:
        with torch.inference_mode():
            return self._encoder.encode(history, np.empty(0, np.int64), now_ms)

    def query(self, history: History, now_ms: int) -> NDArray[np.float32]:
        """Return what the encoder makes of a history, of unit length, [D]."""
        query_D: NDArray[np.float32] = self._encoded(history.last(self.settings.max_len), now_ms).query.numpy()
        return query_D

    def rank(self, history: History, rows_b: NDArray[np.int64], now_ms: int) -> Scores:
        """Score candidates in one pass, each as if it alone were shown now, after the history."""
        history = history.last(self.settings.max_len - 1)  # the candidates share the last position
        with torch.inference_mode():
            encoded, item_bD = self._encoder.encode(history, rows_b, now_ms), self._item_RD[torch.from_numpy(rows_b)]
            logits_bA = self._rank_logits(history, rows_b, now_ms, encoded)
            logit_b = (unit(item_bD) @ encoded.query / self.settings.temperature).numpy()
        fused_b = self._counted.scores(rows_b, logit_b, self._added(history, now_ms, ALL), self.live_V)
        return Scores(self._probabilities(history, rows_b, logits_bA.numpy(), now_ms), fused_b)

    def _rank_logits(self, history: History, rows_b: NDArray[np.int64], now_ms: int, encoded: Encoded) -> Tensor:
        """Return the logits of towers, or of a model that only ranks, [b, A]."""
        items_b, ranker, n = torch.from_numpy(rows_b), self._recommender.ranker, len(history)
        if ranker is None:
            y_bD = encoded.candidates
            return self._recommender.rank_logits(y_bD, encoded.query.expand_as(y_bD), self._item_RD[items_b])
        tokens = Tokens(
            self._encoder.content(history.items_n, history.features_n),
            gather(self._feature_RD, history.actions_n),
            torch.from_numpy(history.items_n),
            torch.from_numpy(history.kinds_n),
            torch.from_numpy(history.ts_ms_n),
            torch.tensor([0, n]),
        )
        asked = histories(tokens, torch.tensor([n - 1]), torch.tensor([now_ms]), ranker.behaviours)
        logits_bA: Tensor = ranker(asked, candidates_of(self._item_RD[items_b], items_b, torch.zeros_like(items_b)))
        return logits_bA

    def ablated(self, history: History, rows_b: NDArray[np.int64], now_ms: int, head: int, newest: int) -> "Ablation":
        """Score candidates as topk does, and again without each of the newest events.

        Nothing takes the place of the event that is left out.
        """
        history = history.last(self.settings.max_len)
        left_out = range(len(history) - 1, max(-1, len(history) - 1 - newest), -1)
        item_bD, encoded = unit(self._item_RD[torch.from_numpy(rows_b)]), self._encoded(history, now_ms)
        with torch.inference_mode():
            less = [self._encoder.without(history, encoded, place, now_ms).query for place in left_out]
            logits = [(item_bD @ query_D / self.settings.temperature).numpy() for query_D in (encoded.query, *less)]
        histories = [history, *(history.without(place) for place in left_out)]
        parts = [
            self._parts(each, rows_b, logit_b, now_ms, head) for each, logit_b in zip(histories, logits, strict=True)
        ]
        total_b = parts[0].sum(1)
        changes = np.array([total_b - without.sum(1) for without in parts[1:]]).reshape(len(left_out), len(rows_b))
        return Ablation(parts[0], changes)

    def _parts(
        self, history: History, rows_b: NDArray[np.int64], logit_b: NDArray[np.float32], now_ms: int, head: int
    ) -> NDArray[np.float64]:
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
        logits_bA = self._clicks.step(asked, np.full(b, now_ms), self._values, learn=False)[0]
        probability_bA: NDArray[np.float32] = np.exp(-np.logaddexp(0, -logits_bA)).astype(np.float32)
        return probability_bA


def _recommender(settings: ModelSettings, state: dict[str, NDArray[Any]]) -> Recommender:
    recommender = Recommender(settings, seed=0)
    recommender.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return recommender.eval().requires_grad_(False)


def _bags(features: ItemFeatures) -> Bags:
    return features.bags(np.arange(len(features.rows)))


def _weight(array: NDArray[Any], rows: int, dim: int) -> Tensor:
    if array.shape != (rows, dim):
        raise ValueError(f"a table has the shape {array.shape} where {(rows, dim)} is wanted")
    return torch.from_numpy(array.astype(np.float32, copy=False))


def _first_line(error: Exception) -> str:
    text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return " ".join(text.split())[:300]
