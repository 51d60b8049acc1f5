"""Queries: top-k and ranking for a user, answered from one snapshot and the user's tokens as they are now.

An Answerer is immutable and shared by threads; a newer snapshot gets another Answerer. Items that are withdrawn in the
snapshot are never recommended. A user of whom the snapshot knows nothing gets what is popular, and the answer says so.
The model reads a user's last max_len tokens; the items that the user acted on are looked for in all that are kept.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import under
from model.data.catalogue import Catalogue
from model.data.vocabulary import Vocabulary
from model.serving.popular import Popular
from model.serving.request_time import event_time_ms
from model.serving.responses import (
    Order,
    RankedItem,
    Ranking,
    ScoredItem,
    SnapshotInfo,
    TopK,
    check_items,
    check_k,
    check_user,
)
from model.serving.scorer import History, Scorer
from model.serving.sequences import Sequences, read_tokens
from model.storage.aliases import resolve
from model.storage.snapshot import ID_PATTERN, Snapshot, load_snapshot
from stream.example import NO_KEY, TOKEN_DTYPE, Kind, id_key

_STEP_MS: Final = 1000  # between the items of a sequence that is given without times
_NO_PROBABILITIES: Final = "no shown item has been trained on yet, so there are no probabilities"
_ALL: Final = 2**31 - 1  # more tokens than are kept of any user


class Answerer:
    """Answers from one snapshot.

    Args:
        snapshot: Loaded and verified.
        sequences: Reader of the users' tokens.
        alias: Alias under which the snapshot was found, for the answers; None if by its id.
        wall: Wall time in seconds since 1970.

    Raises:
        ModelError: The snapshot is whole, but no recommender of this version.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        sequences: Sequences,
        *,
        alias: str | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.manifest = snapshot.manifest
        self.snapshot_id = snapshot.manifest.id
        self._scorer = Scorer(snapshot)
        self._sequences, self._alias, self._wall = sequences, alias, wall
        self._names = _ItemNames(snapshot, self._scorer.items)
        self._popular = Popular(snapshot, len(self._scorer.items), self._scorer.live_V)
        self._learned_ms = int(snapshot.arrays.get("popularity.at_ms", 0))

    def info(self) -> SnapshotInfo:
        """Return which snapshot answers and how old it is."""
        manifest = self.manifest
        return SnapshotInfo(
            id=manifest.id,
            name=manifest.name,
            alias=self._alias,
            age_s=round(max(0.0, self._wall() - manifest.created), 3),
            watermark_ms=manifest.watermark_ms,
            step=manifest.step,
        )

    def topk(self, user: str, k: int = 10, now_ms: int | None = None, *, include_seen: bool = False) -> TopK:
        """Return the best live items for a user, by default none that the user acted on in a token still kept.

        Raises:
            QueryError: User or k is refused.
            ModelError: The user's sequence cannot be read.
        """
        check_user(user)
        check_k(k)
        max_len = self._scorer.settings.max_len
        tokens = read_tokens(self._sequences, user, max_len if include_seen else _ALL)
        history = self._scorer.history(tokens[-max_len:])
        excluded = self._excluded(tokens, include_seen)
        return self._topk(user, history, k, self._request_ms(tokens, now_ms), excluded, _why_popular(tokens, history))

    def topk_sequence(
        self, items: Sequence[str], k: int = 10, now_ms: int | None = None, *, include_seen: bool = False
    ) -> TopK:
        """Return the best live items after these, as if acted on one second apart, the last one a second ago.

        The action is the first of the model's rank actions that the snapshot has seen; unknown items are left out.

        Raises:
            QueryError: The sequence or k is refused.
        """
        check_items(items, "sequence")
        check_k(k)
        request_ms = self._request_ms(np.zeros(0, TOKEN_DTYPE), now_ms)
        tokens = self._acted_on(items, request_ms)
        history = self._scorer.history(tokens)
        reason = None if len(history) else "the snapshot knows none of the sequence's items"
        return self._topk(None, history, k, request_ms, self._excluded(tokens, include_seen), reason)

    def rank(self, user: str, items: Sequence[str], now_ms: int | None = None) -> Ranking:
        """Put candidates in order in one pass, each scored as if it alone were shown to the user now.

        An item named twice is ranked once. Withdrawn items, then unknown ones, come last and have no scores.

        Raises:
            QueryError: User or items are refused.
            ModelError: The user's sequence cannot be read.
        """
        check_user(user)
        check_items(items)
        tokens = read_tokens(self._sequences, user, self._scorer.settings.max_len)
        history = self._scorer.history(tokens)
        request_ms, reason = self._request_ms(tokens, now_ms), _why_popular(tokens, history)
        texts = list(dict.fromkeys(items))
        row_b = self._scorer.items.rows(np.array([id_key(text) for text in texts], np.uint64))
        withdrawn_b = np.array([row >= 0 and bool(self._scorer.items.withdrawn[row]) for row in row_b.tolist()])
        open_b = np.flatnonzero((row_b >= 0) & ~withdrawn_b)
        ranked, ordered_by = self._ranked([texts[i] for i in open_b], row_b[open_b], history, request_ms, reason)
        rest = [(i, bool(row_b[i] >= 0)) for i in np.flatnonzero((row_b < 0) | withdrawn_b)]
        ranked += [self._unscored(texts[i], known) for i, known in sorted(rest, key=lambda pair: not pair[1])]
        return Ranking(
            user=user,
            source="popularity" if reason else "model",
            reason=reason or (None if self.manifest.rank_targets else _NO_PROBABILITIES),
            ordered_by=ordered_by,
            now_ms=request_ms,
            tokens=min(len(history), self._scorer.settings.max_len - 1),
            items=ranked,
            snapshot=self.info(),
        )

    def warm_up(self) -> None:
        """Answer once in each way, so that no client waits for what is compiled at its first use."""
        if not len(self._scorer.items):
            return
        tokens = self._acted_on([self._names.text(0)], self._learned_ms)
        history = self._scorer.history(tokens)
        self._scorer.topk(history, self._learned_ms, 1, self._excluded(tokens, include_seen=False))
        self._scorer.rank(history, np.zeros(1, np.int64), self._learned_ms)
        self._popular.topk(1, np.zeros(0, np.int64))

    def _excluded(self, tokens: NDArray[Any], include_seen: bool) -> NDArray[np.int64]:
        """Return the item rows of the actions among tokens, none if these items may be recommended again."""
        acted = tokens[tokens["kind"] == Kind.ACTION]
        return self._scorer.history(acted[:0] if include_seen else acted).acted_on()

    def _topk(
        self,
        user: str | None,
        history: History,
        k: int,
        request_ms: int,
        excluded: NDArray[np.int64],
        reason: str | None,
    ) -> TopK:
        rows, scores = (
            self._popular.topk(k, excluded) if reason else self._scorer.topk(history, request_ms, k, excluded)
        )
        return TopK(
            user=user,
            source="popularity" if reason else "model",
            reason=reason,
            now_ms=request_ms,
            tokens=min(len(history), self._scorer.settings.max_len),
            items=[
                ScoredItem(item_id=self._names.text(row), title=self._names.title_at(row), score=score)
                for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
            ],
            snapshot=self.info(),
        )

    def _ranked(
        self, texts: list[str], row_b: NDArray[np.int64], history: History, request_ms: int, reason: str | None
    ) -> tuple[list[RankedItem], Order]:
        if reason:
            count_b = self._popular.counts_R[row_b]
            return [
                self._scored(texts[i], int(row_b[i]), None, float(count_b[i]))
                for i in np.argsort(-count_b, kind="stable")
            ], "popularity"
        scores = self._scorer.rank(history, row_b, request_ms)
        trained = self.manifest.rank_targets > 0
        by_b = scores.probabilities.mean(1) if trained else scores.retrieval
        actions = self._scorer.settings.rank_actions
        return [
            self._scored(
                texts[i],
                int(row_b[i]),
                dict(zip(actions, scores.probabilities[i].tolist(), strict=True)) if trained else None,
                float(scores.retrieval[i]),
            )
            for i in np.argsort(-by_b, kind="stable")
        ], "mean_action_probability" if trained else "retrieval_score"

    def _scored(self, text: str, row: int, probabilities: dict[str, float] | None, score: float) -> RankedItem:
        return RankedItem(
            item_id=text,
            title=self._names.title_at(row),
            known=True,
            withdrawn=False,
            probabilities=probabilities,
            score=score,
        )

    def _unscored(self, text: str, known: bool) -> RankedItem:
        title = self._names.title(id_key(text))
        return RankedItem(item_id=text, title=title, known=known, withdrawn=known, probabilities=None, score=None)

    def _acted_on(self, items: Sequence[str], request_ms: int) -> NDArray[Any]:
        keys = np.array([id_key(action) for action in self._scorer.settings.rank_actions], np.uint64)
        seen = keys[self._scorer.features.rows(keys) >= 0]
        tokens = np.zeros(len(items), TOKEN_DTYPE)
        tokens["key"] = [id_key(item) for item in items]
        tokens["action"] = seen[0] if len(seen) else NO_KEY
        tokens["ts_ms"] = request_ms - _STEP_MS * np.arange(len(items), 0, -1)
        tokens["kind"] = Kind.ACTION
        return tokens

    def _request_ms(self, tokens: NDArray[Any], now_ms: int | None) -> int:
        """Return the time of the request: the given one, or now, but never before the user's last token."""
        if now_ms is not None:
            return now_ms
        last_ms = int(tokens["ts_ms"].max(initial=0))
        return max(last_ms, event_time_ms(self.manifest, self._wall(), self._learned_ms))


class _ItemNames:
    """Ids and titles of a snapshot's items."""

    def __init__(self, snapshot: Snapshot, items: Vocabulary) -> None:
        state = under("catalogue.", snapshot.arrays)
        self._catalogue = Catalogue.from_state(state) if state else Catalogue()
        self._items = items

    def text(self, row: int) -> str:
        """Return the id of an item; where only its key is known, that in hex."""
        return self._items.texts[row] or f"key {int(self._items.keys[row]):016x}"

    def title_at(self, row: int) -> str | None:
        """Return the title of the item in a row."""
        return self.title(int(self._items.keys[row]))

    def title(self, key: int) -> str | None:
        """Return the title of an item, None where the catalogue has none."""
        item = self._catalogue.get(key)
        return item.title if item else None


def open_answerer(
    directory: Path, name: str, sequences: Sequences, *, wall: Callable[[], float] = time.time
) -> Answerer:
    """Load the snapshot with this alias or id from a directory and return its answerer.

    Raises:
        ModelError: There is none, or it cannot be loaded.
    """
    return answerer_of(load_snapshot(resolve(directory, name)), name, sequences, wall=wall)


def answerer_of(
    snapshot: Snapshot, name: str, sequences: Sequences, *, wall: Callable[[], float] = time.time
) -> Answerer:
    """Return the answerer of a snapshot that was found under a name, alias or id; raises as Answerer."""
    return Answerer(snapshot, sequences, alias=None if ID_PATTERN.fullmatch(name) else name, wall=wall)


def _why_popular(tokens: NDArray[Any], history: History) -> str | None:
    """Return why the model cannot answer for a user, None if it can."""
    if not len(tokens):
        return "user unknown"
    return None if len(history) else "the snapshot knows none of the user's tokens"
