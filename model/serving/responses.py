"""Answers of queries, on the command line (--json) and over HTTP: their fields are a promise to clients.

Every answer names the snapshot behind it, how old that is by the wall clock, and its event time.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from model.errors import ModelError
from model.evaluation.metrics import ALL
from model.evaluation.prequential import MODEL
from model.storage.snapshot import Manifest
from stream.example import MAX_ID_BYTES

MAX_K: Final = 1000
MAX_ITEMS: Final = 2000  # candidates of one ranking, items of a given sequence
MAX_USERS: Final = 100  # of one batch
MAX_ALIKE: Final = 1000  # users that are compared with one
MAX_PAIRS: Final = 20_000  # users x candidates, or x items wanted, of one batch
MAX_EXPLAINED: Final = 100  # items of one explanation
MAX_EXPLAINED_USERS: Final = 20  # of one batch of explanations, which take long

_LISTED: Final = re.compile(r'(?:^|,)(?:"((?:[^"]|"")*)"(?=,|\Z)|([^,]*))')

_NOTHING_SHOWN: Final = "no shown item has been trained on yet, so there are no probabilities"
_NO_POSITIVE: Final = "no action of model.rank_actions has had a positive, so there are no probabilities"

ScoreSource = Literal["model", "popularity"]
ReadAs = Literal["frozen", "stand_in"]
Order = Literal["mean_action_probability", "retrieval_score", "popularity"]


_ItemId = Annotated[str, Field(description="Id of the item, as events have it.")]
_Title = Annotated[str | None, Field(description="Its title in the catalogue; null without one.")]
_Source = Annotated[ScoreSource, Field(description="Who answers: the model, or decayed popularity in its place.")]
_NowMs = Annotated[int, Field(description="Time of the request in event time, ms.")]
_Tokens = Annotated[int, Field(description="Tokens of the sequence that the model read.")]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class SnapshotInfo(_Answer):
    """The snapshot behind an answer."""

    id: str
    """Its step and a digest of its content."""
    name: str
    """Name of the trainer that made it."""
    alias: str | None
    """Alias under which it was found; null if its id was given."""
    age_s: float
    """Seconds of wall time since it was made."""
    watermark_ms: int
    """Event time, ms, up to which it was trained; near 9007199254740991 where its log has ended."""
    step: int
    """Micro-batches that its trainer had learned."""


_Behind = Annotated[SnapshotInfo, Field(description="The snapshot that answers.")]


class ScoredItem(_Answer):
    """One recommended item."""

    item_id: _ItemId
    title: _Title
    score: float
    """Cosine similarity over temperature; where popularity answers, the decayed count."""


class TopK(_Answer):
    """The best live items for one user or sequence, best first."""

    user: str | None
    """Null where a sequence was given."""
    source: _Source
    reason: str | None
    """Why the model did not answer; null where it did."""
    now_ms: _NowMs
    tokens: _Tokens
    unknown: list[str]
    """Ids of a given sequence that the snapshot does not know; they are left out, unless `read_as` has them."""
    read_as: dict[str, ReadAs]
    """Those of them that count all the same: with the vector that the item had when it left the vocabulary (frozen), or
    as what stands in for items without a row (stand_in); train.unknown_items decides."""
    items: list[ScoredItem]
    """Best first."""
    missing: str | None
    """Why there are fewer items than were asked for; null where there are not."""
    snapshot: _Behind


class RankedItem(_Answer):
    """One candidate."""

    item_id: _ItemId
    title: _Title
    known: bool
    """Whether the snapshot has a row for the item; if not, it has no scores and comes last."""
    left: bool
    """Whether it had one, and has left the vocabulary (train.item_ttl_d, train.max_items), among those that left last.
    """
    withdrawn: bool
    """Withdrawn items have no scores and come last."""
    probabilities: dict[str, float] | None
    """Action → probability that the user takes it if the item is shown now; null where the model did not answer, or was
    not trained on any shown item yet."""
    score: float | None
    """Retrieval score, or decayed count, as in TopK."""


class Ranking(_Answer):
    """The candidates in order, best first."""

    user: str
    """As asked."""
    source: _Source
    reason: str | None
    """Why the model did not answer, or has no probabilities; null where it has."""
    ordered_by: Order
    """Mean of the probabilities; the retrieval score where no ranking target was trained on; or popularity."""
    now_ms: _NowMs
    tokens: _Tokens
    items: list[RankedItem]
    """Best first; each candidate once."""
    snapshot: _Behind


class TopKBatch(_Answer):
    """The answers for several users, in the order of the question."""

    answers: list[TopK]
    """One a user."""


class RankingBatch(_Answer):
    """The same candidates for several users, in the order of the question."""

    answers: list[Ranking]
    """One a user."""


class Event(_Answer):
    """One event of a user's history."""

    kind: Literal["impression", "action", "attribute"]
    """What happened: an item was shown, or acted on, or an attribute of the user changed."""
    id: str
    """Of the item, or the attribute's name=value; the key in hex where the snapshot knows nothing else, as of items
    that have left the vocabulary, which is said."""
    title: _Title
    action: str | None
    """Name of the action; null for the other kinds."""
    ts_ms: int
    """Event time, ms."""


class History(_Answer):
    """The last events of a user as they are now, those that wait for the watermark included."""

    user: str
    """As asked."""
    events: list[Event]
    """Newest first; empty where the user is unknown."""


class ExplainedItem(_Answer):
    """Why one item has its score."""

    item_id: _ItemId
    title: _Title
    score: float
    """As in TopK; the sum of `encoder` and all of `counts`."""
    encoder: float
    """What the encoder adds."""
    counts: dict[str, float]
    """What each count adds: popularity by half-life, what goes together with the history, what follows it, the user's
    own items."""
    changes: list[float]
    """For each of `events`: this score less the score without that event."""


class Explanation(_Answer):
    """Why items have their scores: what the counts add, and what each event of the history moves."""

    user: str
    """As asked."""
    source: _Source
    reason: str | None
    """Why the model did not answer; popularity is then the whole explanation."""
    now_ms: _NowMs
    tokens: _Tokens
    events: list[Event]
    """The newest events that the snapshot knows, newest first; each was left out once."""
    items: list[ExplainedItem]
    """In the order of the question; only those that are live."""
    unscored: dict[str, str]
    """The other items of the question, and why each has no score: withdrawn, left the vocabulary, or unknown."""
    snapshot: _Behind


class SimilarItem(_Answer):
    """One item like another."""

    item_id: _ItemId
    title: _Title
    similarity: float
    """Cosine of the items' vectors, -1 to 1."""


class Similar(_Answer):
    """The live items most like one item, the most similar first."""

    item_id: _ItemId
    title: _Title
    items: list[SimilarItem]
    """The most similar first."""
    snapshot: _Behind


class SimilarUser(_Answer):
    """One user like another."""

    user: str
    """Id of the user."""
    similarity: float
    """Cosine of what the encoder makes of the two histories, -1 to 1."""
    tokens: int
    """Tokens of this user's sequence that the model read."""


class SimilarUsers(_Answer):
    """Who of some users is most like one user."""

    user: str
    """Id of the user who was asked about."""
    users: list[SimilarUser]
    """The most similar first."""
    unknown: dict[str, str]
    """Those that cannot be compared, and why."""
    snapshot: _Behind


class SimilarBatch(_Answer):
    """What is like each of several items, in the order of the question."""

    answers: list[Similar]
    """One an item that is known."""
    unknown: dict[str, str]
    """The others, and why there is no answer."""

    @classmethod
    def of(cls, items: Sequence[str], similar: Callable[[str], Similar]) -> Self:
        """Return the answers of a function that raises UnknownError for unknown items."""
        answers, unknown, met = list[Similar](), dict[str, str](), set[str]()
        for item in items:
            if item in met:
                continue
            met.add(item)
            try:
                answers.append(similar(item))
            except UnknownError as error:
                unknown[item] = str(error)
        return cls(answers=answers, unknown=unknown)


class ExplanationBatch(_Answer):
    """The same items explained for several users, in the order of the question."""

    answers: list[Explanation]
    """One a user."""


class Freshness(_Answer):
    """How old an answer of this moment would be."""

    snapshot: _Behind
    now_ms: int
    """Event time at which a query would be asked now."""
    behind_s: float | None
    """Seconds of event time from what the snapshot has learned to `now_ms`; null where the clock does not tell event
    time: its log is replayed (`now_ms` is guessed from the snapshot's age), or has ended."""


class QueryError(ModelError):
    """A query that no snapshot can answer: status 422 over HTTP."""


class UnknownError(QueryError):
    """A query about something that there is not: status 404 over HTTP."""


def split_ids(ids: str | None) -> list[str]:
    """Return the ids between commas; one that has a comma itself stands in quotes, as in CSV."""
    return [quoted.replace('""', '"') or plain for quoted, plain in _LISTED.findall(ids)] if ids else []


def check_user(user: str) -> None:
    """Refuse an id that no user can have; raises QueryError."""
    if not user:
        raise QueryError("user is empty; give the id of a user.")
    _check_ids("user", user)


def check_users(users: Sequence[str]) -> None:
    """Refuse a list of users to compare that is empty, too long, or holds an id that no user can have."""
    if not 1 <= len(users) <= MAX_ALIKE:
        raise QueryError(f"users has {len(users):,} ids; give 1 to {MAX_ALIKE:,}.")
    if not all(users):
        raise QueryError(f"users holds an empty id, in place {list(users).index('')}; leave it out.")
    _check_ids("users", *users)


def check_k(k: int, what: str = "k", of: str = "items") -> None:
    """Refuse a number below 1 or above MAX_K; raises QueryError."""
    if not 1 <= k <= MAX_K:
        raise QueryError(f"{what} is {k}; give a number of {of} from 1 to {MAX_K:,}.")


def check_pairs(asked: int, each: int, what: str = "users with {} items") -> None:
    """Refuse a batch whose answers would be too long; raises QueryError."""
    if asked * each > MAX_PAIRS:
        raise QueryError(
            f"{asked:,} {what.format(f'{each:,}')} each are {asked * each:,} pairs; give at most {MAX_PAIRS:,}."
        )


def check_explained(users: int) -> None:
    """Refuse a batch of explanations that would take too long; raises QueryError."""
    if users > MAX_EXPLAINED_USERS:
        raise QueryError(f"{users:,} users are to be explained; give at most {MAX_EXPLAINED_USERS}.")


def check_items(items: Sequence[str], what: str = "items", most: int = MAX_ITEMS) -> None:
    """Refuse a list of ids that is empty, too long, or holds an id that no item can have; raises QueryError."""
    if not items:
        raise QueryError(f"{what} has 0 item ids; give 1 to {most:,}.")
    if len(items) > most:
        raise QueryError(f"{what} has {len(items):,} item ids; give at most {most:,}.")
    if not all(items):
        raise QueryError(f"{what} holds an empty item id, in place {list(items).index('')}; leave it out.")
    _check_ids(what, *items)


def _check_ids(what: str, *texts: str) -> None:
    """Refuse ids that no event can have: too long, or half of a surrogate pair, which the command line can bring."""
    for text in texts:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise QueryError(
                f"{what} has the id {text[:80]!a}, in which half of a surrogate pair stands alone; give ids that UTF-8 "
                "can hold."
            ) from None
        if size > MAX_ID_BYTES:
            raise QueryError(
                f"{what} has an id of {size:,} bytes, which begins with {text[:20]!r}; ids have at most {MAX_ID_BYTES}."
            )


def why_no_probabilities(manifest: Manifest) -> str | None:
    """Return why the towers' probabilities mean nothing, None where they do; towers without figures count as trained.

    Args:
        manifest: Of the snapshot that answers.
    """
    if not manifest.rank_targets:
        return _NOTHING_SHOWN
    by_action = manifest.metrics.get("ranking", {}).get(MODEL, {}).get("total", {})
    if by_action and not any(ages[ALL]["positives"] for ages in by_action.values()):
        return _NO_POSITIVE
    return None
