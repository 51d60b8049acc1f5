"""Queries: top-k and ranking for a user, answered by one snapshot and the user's tokens as they are now.

An Answerer is immutable and shared by threads; a newer snapshot gets an Answerer of its own. Items that the snapshot
holds withdrawn are never recommended. A user of whom the snapshot knows nothing gets what is popular, and the answer
says so. The model reads a user's last max_len tokens; what the user acted on is looked for in all that are kept.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import under
from model.data.catalogue import Catalogue
from model.data.event_time import is_end
from model.errors import ModelError
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
from model.storage.aliases import resolve
from model.storage.snapshot import ID_PATTERN, Manifest, Snapshot, load_snapshot
from stream.example import NO_KEY, TOKEN_DTYPE, Kind, id_key

_DAY_MS: Final = 86_400_000
_STEP_MS: Final = 1000  # between the items of a sequence that is given without times
_POPULAR: Final = "popularity"
_ALL: Final = 2**31 - 1  # more tokens than are kept of anybody


class Sequences(Protocol):
    """Where users' tokens are read; called from several threads at once."""

    def tokens(self, user: str, last: int) -> NDArray[Any] | None:
        """Give the user's last tokens, oldest first, as TOKEN_DTYPE; None: the user is unknown."""


class NoSequences:
    """Knows no user: for queries that bring their own sequence."""

    def tokens(self, user: str, last: int) -> NDArray[Any] | None:
        """Give nothing."""


class Answerer:
    """Answers from one snapshot.

    Args:
        snapshot: loaded and verified.
        sequences: of the users.
        alias: under which the snapshot was found, for the answers; None if by its id.
        wall: seconds since 1970.

    Raises:
        ModelError: the snapshot is whole, but no recommender of this version.
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
        self._catalogue = _catalogue(snapshot)
        self._popularity_R = _popularity(snapshot, len(self._scorer.items))
        live_V = self._scorer.live_V
        self._by_popularity_V = live_V[np.argsort(-self._popularity_R[live_V], kind="stable")]
        self._learnt_ms = int(snapshot.arrays.get("popularity.at_ms", 0))

    def info(self) -> SnapshotInfo:
        """Say which snapshot answers and how old it is."""
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
        """Give the best live items for a user; unless include_seen, none that the user acted on in a token still kept.

        Raises:
            QueryError: user or k is refused.
            ModelError: the user's sequence cannot be read.
        """
        check_user(user)
        check_k(k)
        max_len = self._scorer.settings.max_len
        tokens = self._tokens(user, max_len if include_seen else _ALL)
        history = self._scorer.history(tokens[-max_len:])
        excluded = self._excluded(tokens, include_seen)
        return self._topk(user, history, k, self._now_ms(tokens, now_ms), excluded, _silence(tokens, history))

    def topk_sequence(
        self, items: Sequence[str], k: int = 10, now_ms: int | None = None, *, include_seen: bool = False
    ) -> TopK:
        """Give the best live items after these, which count as acted on one second apart, the last one second ago.

        The action is the first of the model's rank actions that the snapshot has seen; unknown items are left out.

        Raises:
            QueryError: the sequence or k is refused.
        """
        check_items(items, "sequence")
        check_k(k)
        asked_ms = self._now_ms(np.zeros(0, TOKEN_DTYPE), now_ms)
        tokens = self._acted_on(items, asked_ms)
        history = self._scorer.history(tokens)
        reason = None if len(history) else "the snapshot knows none of the sequence's items"
        return self._topk(None, history, k, asked_ms, self._excluded(tokens, include_seen), reason)

    def rank(self, user: str, items: Sequence[str], now_ms: int | None = None) -> Ranking:
        """Put candidates in order in one pass, each scored as if it alone were shown to the user now.

        An item named twice is ranked once. Withdrawn and then unknown items stand at the end, without scores.

        Raises:
            QueryError: user or items are refused.
            ModelError: the user's sequence cannot be read.
        """
        check_user(user)
        check_items(items)
        tokens = self._tokens(user, self._scorer.settings.max_len)
        history = self._scorer.history(tokens)
        asked_ms, reason = self._now_ms(tokens, now_ms), _silence(tokens, history)
        texts = list(dict.fromkeys(items))
        row_b = self._scorer.items.rows(np.array([id_key(text) for text in texts], np.uint64))
        withdrawn_b = np.array([row >= 0 and bool(self._scorer.items.withdrawn[row]) for row in row_b.tolist()])
        open_b = np.flatnonzero((row_b >= 0) & ~withdrawn_b)
        ranked, ordered_by = self._ranked([texts[i] for i in open_b], row_b[open_b], history, asked_ms, reason)
        rest = [(i, bool(row_b[i] >= 0)) for i in np.flatnonzero((row_b < 0) | withdrawn_b)]
        ranked += [self._unscored(texts[i], known) for i, known in sorted(rest, key=lambda pair: not pair[1])]
        return Ranking(
            user=user,
            source="popularity" if reason else "model",
            reason=reason,
            ordered_by=ordered_by,
            now_ms=asked_ms,
            tokens=min(len(history), self._scorer.settings.max_len - 1),
            items=ranked,
            snapshot=self.info(),
        )

    def _excluded(self, tokens: NDArray[Any], include_seen: bool) -> NDArray[np.int64]:
        """Give the item rows of the actions among tokens, none if they may be seen again."""
        acted = tokens[tokens["kind"] == Kind.ACTION]
        return self._scorer.history(acted[:0] if include_seen else acted).acted_on()

    def _topk(
        self,
        user: str | None,
        history: History,
        k: int,
        now_ms: int,
        excluded: NDArray[np.int64],
        reason: str | None,
    ) -> TopK:
        find = self._popular if reason else self._scorer.topk
        rows, scores = find(history, now_ms, k, excluded)
        return TopK(
            user=user,
            source="popularity" if reason else "model",
            reason=reason,
            now_ms=now_ms,
            tokens=min(len(history), self._scorer.settings.max_len),
            items=[
                ScoredItem(item_id=self._text(row), title=self._title(self._key(row)), score=score)
                for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
            ],
            snapshot=self.info(),
        )

    def _popular(
        self, history: History, now_ms: int, k: int, excluded: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Give the live rows with the largest decayed counts but for the excluded; equal ones by row."""
        first = self._by_popularity_V[: k + len(excluded)]
        rows = first[~np.isin(first, excluded)][:k]
        return rows, self._popularity_R[rows]

    def _ranked(
        self, texts: list[str], row_b: NDArray[np.int64], history: History, now_ms: int, reason: str | None
    ) -> tuple[list[RankedItem], Order]:
        if reason:
            count_b = self._popularity_R[row_b]
            return [
                self._scored(texts[i], int(row_b[i]), None, float(count_b[i]))
                for i in np.argsort(-count_b, kind="stable")
            ], _POPULAR
        scores = self._scorer.rank(history, row_b, now_ms)
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
            title=self._title(self._key(row)),
            known=True,
            withdrawn=False,
            probabilities=probabilities,
            score=score,
        )

    def _unscored(self, text: str, known: bool) -> RankedItem:
        title = self._title(id_key(text))
        return RankedItem(item_id=text, title=title, known=known, withdrawn=known, probabilities=None, score=None)

    def _tokens(self, user: str, last: int) -> NDArray[Any]:
        """Give the user's last tokens, none where the user is unknown."""
        try:
            tokens = self._sequences.tokens(user, last)
            return np.zeros(0, TOKEN_DTYPE) if tokens is None else tokens
        except Exception as error:  # whatever store it is, its errors end here
            raise ModelError(f"The sequence of user {user!r} cannot be read: {error}") from error

    def _acted_on(self, items: Sequence[str], now_ms: int) -> NDArray[Any]:
        keys = np.array([id_key(action) for action in self._scorer.settings.rank_actions], np.uint64)
        known = keys[self._scorer.features.rows(keys) >= 0]
        tokens = np.zeros(len(items), TOKEN_DTYPE)
        tokens["key"] = [id_key(item) for item in items]
        tokens["action"] = known[0] if len(known) else NO_KEY
        tokens["ts_ms"] = now_ms - _STEP_MS * np.arange(len(items), 0, -1)
        tokens["kind"] = Kind.ACTION
        return tokens

    def _now_ms(self, tokens: NDArray[Any], now_ms: int | None) -> int:
        """Give the time of the request: as asked for, or now, and never before the user's last token."""
        if now_ms is not None:
            return now_ms
        last_ms = int(tokens["ts_ms"].max(initial=0))
        return max(last_ms, event_time_ms(self.manifest, self._wall(), self._learnt_ms))

    def _key(self, row: int) -> int:
        return int(self._scorer.items.keys[row])

    def _text(self, row: int) -> str:
        return self._scorer.items.texts[row] or f"key {self._key(row):016x}"

    def _title(self, key: int) -> str | None:
        item = self._catalogue.get(key)
        return item.title if item else None


def event_time_ms(manifest: Manifest, wall_s: float, learnt_ms: int = 0) -> int:
    """Give the event time that it is now: the wall clock's, or, for a replayed log, that of the log gone on since.

    A snapshot whose watermark lay more than a day behind the clock when it was made is taken for one of a replayed log.
    Where the log has ended, its time stands still at `learnt_ms`, that of the last example learnt.
    """
    if is_end(manifest.watermark_ms):
        return learnt_ms
    made_ms = round(1000 * manifest.created)
    if made_ms - manifest.watermark_ms <= _DAY_MS:
        return round(1000 * wall_s)
    return max(0, manifest.watermark_ms + max(0, round(1000 * wall_s) - made_ms))


def open_answerer(
    directory: Path, name: str, sequences: Sequences, *, wall: Callable[[], float] = time.time
) -> Answerer:
    """Load the snapshot with this alias or id from a directory and give its answerer.

    Raises:
        ModelError: there is none, or it cannot be loaded.
    """
    return answerer_at(resolve(directory, name), name, sequences, wall=wall)


def answerer_at(path: Path, name: str, sequences: Sequences, *, wall: Callable[[], float] = time.time) -> Answerer:
    """Load a snapshot that was found under a name, alias or id, and give its answerer; raises as open_answerer."""
    alias = None if ID_PATTERN.fullmatch(name) else name
    return Answerer(load_snapshot(path), sequences, alias=alias, wall=wall)


def _silence(tokens: NDArray[Any], history: History) -> str | None:
    """Say why the model cannot answer for a user; None: it can."""
    if not len(tokens):
        return "user unknown"
    return None if len(history) else "the snapshot knows none of the user's tokens"


def _catalogue(snapshot: Snapshot) -> Catalogue:
    state = under("catalogue.", snapshot.arrays)
    return Catalogue.from_state(state) if state else Catalogue()


def _popularity(snapshot: Snapshot, rows: int) -> NDArray[np.float64]:
    counts = snapshot.arrays.get("popularity.counts", np.zeros(0))
    return np.pad(np.asarray(counts, np.float64)[:rows], (0, max(0, rows - len(counts))))
