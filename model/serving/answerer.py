"""Queries: top-k and ranking for a user, answered from one snapshot and the user's tokens as they are now.

An Answerer is immutable and shared by threads; a newer snapshot gets another Answerer. Items that are withdrawn in the
snapshot are never recommended. A user of whom the snapshot knows nothing gets what is popular, and the answer says so.
The model reads a user's last max_len tokens; the items that the user acted on are looked for in all that are kept.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.fusion.answers import ALL, NEW
from model.serving.alike import UserVectors, similar_items
from model.serving.explained import by_count, by_parts
from model.serving.filters import NO_FILTERS, Filters, diverse, pool_size
from model.serving.names import Names
from model.serving.popular import Popular, why_popular
from model.serving.request_time import event_time_ms, is_live
from model.serving.responses import (
    MAX_EXPLAINED,
    Explanation,
    Freshness,
    History as HistoryAnswer,
    Order,
    QueryError,
    RankedItem,
    Ranking,
    ScoredItem,
    Similar,
    SimilarUsers,
    SnapshotInfo,
    TopK,
    check_items,
    check_k,
    check_user,
    why_no_probabilities,
)
from model.serving.scorer import Scorer
from model.serving.sequences import Sequences, read_tokens
from model.storage.aliases import LATEST, resolve
from model.storage.delta_log import State, with_deltas
from model.storage.snapshot import ID_PATTERN, Snapshot, load_snapshot
from model.user_states.cache import UserStates
from model.user_states.history import History
from stream.example import NO_KEY, TOKEN_DTYPE, Kind, id_key

_STEP_MS: Final = 1000  # between the items of a sequence that is given without times
_ALL: Final = 2**31 - 1  # more tokens than are kept of any user


class Answerer:
    """Answers from one snapshot.

    Args:
        snapshot: Loaded and verified.
        sequences: Reader of the users' tokens.
        alias: Alias under which the snapshot was found, for the answers; None if by its id.
        wall: Wall time in seconds since 1970.
        states: Where users' states are kept from one question to the next; None: nowhere.

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
        states: UserStates | None = None,
    ) -> None:
        self.manifest, self.snapshot_id = snapshot.manifest, snapshot.manifest.id
        self._scorer = Scorer(snapshot, states)
        self._sequences, self._alias, self._wall = sequences, alias, wall
        self._names = Names(snapshot, self._scorer.items, self._scorer.features)
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

    def topk(
        self,
        user: str,
        k: int = 10,
        now_ms: int | None = None,
        *,
        include_seen: bool = False,
        filters: Filters = NO_FILTERS,
    ) -> TopK:
        """Return the best live items for a user, by default none that the user acted on in a token still kept.

        Raises:
            QueryError: User or k is refused.
            ModelError: The user's sequence cannot be read.
        """
        check_user(user)
        check_k(k)
        max_len = self._scorer.settings.max_len
        tokens = read_tokens(self._sequences, user, max_len if include_seen else _ALL)
        history = self._scorer.history(tokens[-max_len:], user)
        excluded = self._excluded(tokens, include_seen)
        request_ms, reason = self._request_ms(tokens, now_ms), why_popular(len(tokens), len(history))
        return self._topk(user, history, k, request_ms, excluded, reason, filters)

    def topk_sequence(
        self,
        items: Sequence[str],
        k: int = 10,
        now_ms: int | None = None,
        *,
        include_seen: bool = False,
        filters: Filters = NO_FILTERS,
    ) -> TopK:
        """Return the best live items after these, as if acted on one second apart, the last one a second ago.

        The action is the first of the model's rank actions that the snapshot has seen. Unknown items are left out, or
        read as in training (TopK.read_as).

        Raises:
            QueryError: The sequence or k is refused.
        """
        check_items(items, "sequence")
        check_k(k)
        request_ms = self._request_ms(np.zeros(0, TOKEN_DTYPE), now_ms)
        tokens = self._acted_on(items, request_ms)
        history = self._scorer.history(tokens)
        reason = None if len(history) else "the snapshot knows none of the sequence's items"
        answer = self._topk(None, history, k, request_ms, self._excluded(tokens, include_seen), reason, filters)
        unknown, known_n = self._names.unknown(items), self._scorer.knows(tokens)
        read = {items[n] for n in np.flatnonzero(known_n)[-self._scorer.settings.max_len :]}
        read_as = self._scorer.read_as([text for text in unknown if text in read])
        return answer.model_copy(update={"unknown": unknown, "read_as": read_as})

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
        history = self._scorer.history(tokens, user)
        request_ms, reason = self._request_ms(tokens, now_ms), why_popular(len(tokens), len(history))
        texts = list(dict.fromkeys(items))
        row_b = self._scorer.items.rows(np.array([id_key(text) for text in texts], np.uint64))
        known_b = np.flatnonzero(row_b >= 0)
        open_b = known_b[~self._scorer.items.withdrawn[row_b[known_b]]]
        ranked, ordered_by = self._ranked([texts[i] for i in open_b], row_b[open_b], history, request_ms, reason)
        rest = [(i, bool(row_b[i] >= 0)) for i in np.setdiff1d(np.arange(len(texts)), open_b)]
        ranked += [self._unscored(texts[i], known) for i, known in sorted(rest, key=lambda pair: not pair[1])]
        return Ranking(
            user=user,
            source="popularity" if reason else "model",
            reason=reason or why_no_probabilities(self.manifest),
            ordered_by=ordered_by,
            now_ms=request_ms,
            tokens=min(len(history), self._scorer.settings.max_len - 1),
            items=ranked,
            snapshot=self.info(),
        )

    def explain(
        self,
        user: str,
        items: Sequence[str],
        now_ms: int | None = None,
        *,
        include_seen: bool = False,
        newest: int = 50,
    ) -> Explanation:
        """Return why items have the scores that topk gives them: what counts add, what each event of the user moves.

        Each of the newest events that the snapshot knows is left out once, and nothing takes its place.

        Raises:
            QueryError: User, items, or `newest` are refused.
            ModelError: The user's sequence cannot be read.
        """
        check_user(user)
        check_items(items, most=MAX_EXPLAINED)
        if not 0 <= newest <= MAX_EXPLAINED:
            raise QueryError(f"newest is {newest}; give a number of events from 0 to {MAX_EXPLAINED}.")
        max_len = self._scorer.settings.max_len
        tokens = read_tokens(self._sequences, user, max_len if include_seen else _ALL)
        excluded, tokens = self._excluded(tokens, include_seen), tokens[-max_len:]
        known = tokens[self._scorer.knows(tokens)]
        request_ms, history = self._request_ms(tokens, now_ms), self._scorer.history(known, user)
        reason = why_popular(len(tokens), len(history))
        texts = list(dict.fromkeys(items))
        rows_b = self._scorer.items.rows(np.array([id_key(text) for text in texts], np.uint64))
        live_b = np.isin(rows_b, self._scorer.live_V)
        rows_b, unscored = rows_b[live_b], [text for text, live in zip(texts, live_b, strict=True) if not live]
        if reason:
            explained = by_count(self._popular.counts_R, rows_b, self._names)
        else:
            head = NEW if len(excluded) else ALL
            explained = by_parts(self._scorer.ablated(history, rows_b, request_ms, head, newest), rows_b, self._names)
        return Explanation(
            user=user,
            source="popularity" if reason else "model",
            reason=reason,
            now_ms=request_ms,
            tokens=len(history),
            events=[] if reason else self._names.events(known[::-1][:newest]),
            items=explained,
            unscored={text: self._names.why_unscored(text) for text in unscored},
            snapshot=self.info(),
        )

    def similar(self, item: str, k: int = 10) -> Similar:
        """Return the live items whose vectors are most like that of one item.

        Raises:
            QueryError: The item or k is refused.
            UnknownError: The snapshot does not know the item.
        """
        title, found = similar_items(self._scorer, self._names, item, k)
        return Similar(item_id=item, title=title, items=found, snapshot=self.info())

    def similar_users(self, user: str, users: Sequence[str], k: int = 10, now_ms: int | None = None) -> SimilarUsers:
        """Return who of `users` the model recommends most alike to a user.

        Raises:
            QueryError: User, users, or k are refused.
            UnknownError: The snapshot knows nothing of the user.
            ModelError: A user's sequence cannot be read.
        """
        vectors = UserVectors(self._scorer, self._sequences, partial(self._request_ms, now_ms=now_ms))
        found, unknown = vectors.nearest(user, users, k)
        return SimilarUsers(user=user, users=found, unknown=unknown, snapshot=self.info())

    def freshness(self) -> Freshness:
        """Return how old the snapshot is, and how far what it has learned is behind event time."""
        info, now_ms = self.info(), self._request_ms(np.zeros(0, TOKEN_DTYPE), None)
        behind_s = max(0.0, (now_ms - info.watermark_ms) / 1000) if is_live(self.manifest) else None
        return Freshness(snapshot=info, now_ms=now_ms, behind_s=behind_s)

    def history(self, user: str, last: int = 50) -> HistoryAnswer:
        """Return the last events of a user, newest first, with the names that the snapshot has for them.

        Raises:
            QueryError: User or `last` are refused.
            ModelError: The user's sequence cannot be read.
        """
        check_user(user)
        check_k(last, "last", "events")
        return HistoryAnswer(user=user, events=self._names.events(read_tokens(self._sequences, user, last)[::-1]))

    def warm_up(self) -> None:
        """Answer once in each way, so that no client waits for what is compiled at its first use."""
        if not len(live := self._scorer.live_V[:1]):
            return
        tokens = self._acted_on([self._names.text(int(live[0]))], self._learned_ms)
        history = self._scorer.history(tokens)
        self._scorer.topk(history, self._learned_ms, 1, self._excluded(tokens, include_seen=False))
        self._scorer.rank(history, live, self._learned_ms)
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
        filters: Filters,
    ) -> TopK:
        barred = filters.barred(self._names, self._scorer.items, self._scorer.live_V)
        count = pool_size(k) if filters.diversity else k
        rows: NDArray[np.int64]
        scores: NDArray[np.floating]
        if reason:
            rows, scores = self._popular.topk(count, excluded if barred is None else np.union1d(excluded, barred))
        else:
            rows, scores = self._scorer.topk(history, request_ms, count, excluded, barred)
        if filters.diversity:
            chosen = diverse(scores, self._scorer.vectors(rows), k, filters.diversity)
            rows, scores = rows[chosen], scores[chosen]
        return TopK(
            user=user,
            source="popularity" if reason else "model",
            reason=reason,
            now_ms=request_ms,
            tokens=min(len(history), self._scorer.settings.max_len),
            unknown=[],
            read_as={},
            items=[
                ScoredItem(item_id=self._names.text(row), title=self._names.title_at(row), score=score)
                for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
            ],
            missing=filters.why_few(self._names, self._scorer.items, self._scorer.live_V, len(excluded))
            if len(rows) < k
            else None,
            snapshot=self.info(),
        )

    def _ranked(
        self, texts: list[str], row_b: NDArray[np.int64], history: History, request_ms: int, reason: str | None
    ) -> tuple[list[RankedItem], Order]:
        titles = self._names.titles_at(row_b)
        if reason:
            count_b = self._popular.counts_R[row_b]
            return [
                self._scored(texts[i], titles[i], None, float(count_b[i])) for i in np.argsort(-count_b, kind="stable")
            ], "popularity"
        scores = self._scorer.rank(history, row_b, request_ms)
        trained, actions = why_no_probabilities(self.manifest) is None, self._scorer.settings.rank_actions
        by_b = scores.probabilities.mean(1) if trained else scores.retrieval
        return [
            self._scored(
                texts[i],
                titles[i],
                dict(zip(actions, scores.probabilities[i].tolist(), strict=True)) if trained else None,
                float(scores.retrieval[i]),
            )
            for i in np.argsort(-by_b, kind="stable")
        ], "mean_action_probability" if trained else "retrieval_score"

    def _scored(self, text: str, title: str | None, probabilities: dict[str, float] | None, score: float) -> RankedItem:
        return RankedItem(
            item_id=text, title=title, known=True, left=False, withdrawn=False, probabilities=probabilities, score=score
        )

    def _unscored(self, text: str, known: bool) -> RankedItem:
        title, left = self._names.title(id_key(text)), not known and self._names.left(id_key(text))
        return RankedItem(
            item_id=text, title=title, known=known, left=left, withdrawn=known, probabilities=None, score=None
        )

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


def open_answerer(
    directory: Path, name: str, sequences: Sequences, *, wall: Callable[[], float] = time.time
) -> Answerer:
    """Load the snapshot with this alias or id from a directory and return its answerer.

    The trainer's own alias (latest) means the newest state that there is, deltas included, as it does to a server.

    Raises:
        ModelError: There is none, or it cannot be loaded.
    """
    snapshot = load_snapshot(path := resolve(directory, name))
    if name == LATEST:
        snapshot = with_deltas(directory, State(snapshot, path.name))
    return answerer_for(snapshot, name, sequences, wall=wall)


def answerer_for(
    snapshot: Snapshot,
    name: str,
    sequences: Sequences,
    *,
    wall: Callable[[], float] = time.time,
    states: UserStates | None = None,
) -> Answerer:
    """Return the answerer of a snapshot that was found under a name, alias or id; raises as Answerer."""
    return Answerer(snapshot, sequences, alias=None if ID_PATTERN.fullmatch(name) else name, wall=wall, states=states)
