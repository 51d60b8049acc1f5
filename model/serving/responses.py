"""Answers as queries give them, on the command line (--json) and over HTTP: their fields are a promise to clients.

Every answer says which snapshot gave it, how old that is by the wall clock, and up to which event time it had learnt.
"""

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from model.errors import ModelError

MAX_K: Final = 1000
MAX_ITEMS: Final = 2000  # candidates of one ranking, items of a given sequence

ScoreSource = Literal["model", "popularity"]
Order = Literal["mean_action_probability", "retrieval_score", "popularity"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class SnapshotInfo(_Answer):
    """The snapshot behind an answer."""

    id: str
    name: str
    """Of the trainer that made it."""
    alias: str | None
    """Under which it was found; null if it was asked for by its id."""
    age_s: float
    """Seconds of wall time since it was made."""
    watermark_ms: int
    """Event time up to which it had learnt."""
    step: int


class ScoredItem(_Answer):
    """One recommended item."""

    item_id: str
    title: str | None
    score: float
    """Cosine similarity over temperature; by popularity the decayed count."""


class TopK(_Answer):
    """The best live items for one user or sequence, best first."""

    user: str | None
    """Null where the sequence was given."""
    source: ScoreSource
    reason: str | None
    """Why the model did not answer; null where it did."""
    now_ms: int
    """Time of the request in event time."""
    tokens: int
    """Tokens of the sequence that the model read."""
    items: list[ScoredItem]
    snapshot: SnapshotInfo


class RankedItem(_Answer):
    """One candidate."""

    item_id: str
    title: str | None
    known: bool
    """Whether the snapshot has seen the item; if not, it has no scores and stands at the end."""
    withdrawn: bool
    """Withdrawn items have no scores and stand at the end."""
    probabilities: dict[str, float] | None
    """Action → probability that the user would take it on the item, shown now; null where the model did not answer, or
    has not learnt from any shown item yet."""
    score: float | None
    """Retrieval score, or decayed count, as in TopK."""


class Ranking(_Answer):
    """The candidates in order, best first."""

    user: str
    source: ScoreSource
    reason: str | None
    ordered_by: Order
    now_ms: int
    tokens: int
    items: list[RankedItem]
    snapshot: SnapshotInfo


class QueryError(ModelError):
    """A question that no snapshot can answer: HTTP gives 422 for it."""


def check_user(user: str) -> None:
    """Refuse an id that no user can have."""
    if not user:
        raise QueryError("user is empty; give the id of a user.")
    _check_unicode("user", user)


def check_k(k: int) -> None:
    """Refuse a number of items that is none or too many."""
    if not 1 <= k <= MAX_K:
        raise QueryError(f"k is {k}; give a number of items from 1 to {MAX_K:,}.")


def check_items(items: Sequence[str], what: str = "items") -> None:
    """Refuse a list of ids that is empty, too long, or holds an empty id."""
    if not 1 <= len(items) <= MAX_ITEMS:
        raise QueryError(f"{what} has {len(items):,} item ids; give 1 to {MAX_ITEMS:,}.")
    if not all(items):
        raise QueryError(f"{what} holds an empty item id, in place {list(items).index('')}; leave it out.")
    _check_unicode(what, *items)


def _check_unicode(what: str, *texts: str) -> None:
    """Refuse texts that UTF-8 has no bytes for: JSON can bring half of a surrogate pair."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise QueryError(
                f"{what} has the id {text[:80]!a}, in which half of a surrogate pair stands alone; give ids that UTF-8 "
                "can hold."
            ) from None
