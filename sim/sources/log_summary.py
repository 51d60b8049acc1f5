"""What a log holds, counted on the way while it is read, and the sentences that are said about it."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sim.sources.ties import Ties, count_ties
from stream.schema.topics import SourceTopic

_MOST_ACTIONS: Final = 12
_TIES_SAID: Final = 0.01  # share of rows from which ties are worth a sentence
_IN_ID_ORDER: Final = 0.9
_FEW: Final = 20
_HOUR_MS: Final = 3_600_000
_USERS_HELD: Final = 8
_NOBODY: Final = (
    *("0", "-", "-1", "(not set)", "(none)", "anonymous", "anon", "unknown", "guest", "nobody", "default"),
    *("00000000-0000-0000-0000-000000000000", "nil", "not set"),
)
"""Texts, in small letters, that stand for users who are not known."""
_OF_NOBODY, _OF_ONE = 0.05, 0.3  # shares of the rows from which such a user, or any, is worth a sentence


@dataclass
class LogSummary:
    """Counts of a log; `add_rows` and `add_events` take it bucket by bucket, each user in one bucket."""

    rows: int = 0
    """Rows that became events."""
    read: int = 0
    """Rows of the files."""
    bad: Counter[str] = field(default_factory=Counter)
    bad_items: int = 0
    """Bad rows of the catalogue."""
    without_item: int = 0
    item_column: str = "item"
    """The flag of the item, by whose columns those have none."""
    empty: frozenset[str] = frozenset()
    """Columns in which no row has a value."""
    users: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    dropped: int = 0
    """Duplicates that were left out."""
    whole_hours: bool = True
    """Whether all times are whole hours, as those of days are, so that rows of different moments may be equal."""
    biggest: Counter[str] = field(default_factory=Counter)
    """Rows of the users that have most of them."""
    ties: Ties = field(default_factory=lambda: Ties(0, 0, 0))
    spans_s: Counter[int] = field(default_factory=Counter)
    """Requests by the whole seconds between their first and last row; those of none are not counted."""
    delays_s: Counter[int] = field(default_factory=Counter)
    """Actions on slates by the whole seconds since the first row of their request."""
    slate_sizes: Counter[int] = field(default_factory=Counter)
    """Slates by their number of items."""
    item_keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    """Hashes of the items, sorted."""

    @property
    def slates(self) -> int:
        """Number of slates."""
        return self.slate_sizes.total()

    @property
    def shown(self) -> int:
        """Items shown, over all slates."""
        return sum(size * count for size, count in self.slate_sizes.items())

    @property
    def items(self) -> int:
        """Number of items that are shown or acted on."""
        return len(self.item_keys)

    def add_rows(self, rows: pl.DataFrame, *, slates: bool, drop_duplicates: bool) -> pl.DataFrame:
        """Count the rows of some users, and return them, without duplicates if those are dropped."""
        compared = _without_made_requests(rows).drop("row") if slates else rows.drop("row")
        distinct, hashes = rows, compared.hash_rows()
        if hashes.n_unique() < len(rows):  # much faster than comparing the rows
            distinct = rows.filter(compared.select(first=pl.struct(pl.all()).is_first_distinct())["first"])
        self.duplicates += len(rows) - len(distinct)
        if drop_duplicates:
            self.dropped += len(rows) - len(distinct)
            rows = distinct
        self.rows += len(rows)
        self.whole_hours &= bool((rows["ts"] % _HOUR_MS == 0).all())
        self._add_biggest(distinct)
        if slates:
            self._add_requests(rows.filter(pl.col("request").is_not_null()))
        else:
            self.ties = Ties(*(a + b for a, b in zip(self.ties, count_ties(distinct), strict=True)))
        return rows

    def _add_biggest(self, rows: pl.DataFrame) -> None:
        counts = rows["user"].value_counts().sort("count", "user", descending=[True, False])
        self.biggest.update(dict(counts.head(_USERS_HELD).iter_rows()))
        self.biggest = Counter(dict(sorted(self.biggest.items(), key=_largest_first)[:_USERS_HELD]))

    def _add_requests(self, rows: pl.DataFrame) -> None:
        first = pl.col("ts").min()
        groups = rows.group_by("user", "request").agg(
            span=(pl.col("ts").max() - first) // 1000,
            delays=((pl.col("ts") - first) // 1000).filter(pl.col("action").is_not_null()),
        )
        spans = groups["span"].filter(groups["span"] > 0)
        self.spans_s.update(dict(spans.value_counts().iter_rows()))
        delays = groups["delays"].explode().drop_nulls()
        self.delays_s.update(dict(delays.value_counts().iter_rows()))

    def add_events(self, events: pl.DataFrame) -> None:
        """Count the events of some users."""
        self.users += events["user"].n_unique()
        shown = events["items"].drop_nulls()
        self.slate_sizes.update(dict(shown.list.len().value_counts().iter_rows()))
        acted = events.filter(pl.col("kind") == int(SourceTopic.ACTIONS))["action"]
        self.actions.update(dict(acted.value_counts().iter_rows()))
        items = pl.concat([events["item"].drop_nulls(), shown.explode().drop_nulls()]).unique()
        self.item_keys = np.union1d(self.item_keys, item_keys(items))

    def covered(self, catalogue: Collection[str]) -> int:
        """Return how many items of the log a catalogue has."""
        ids = pl.Series(list(catalogue), dtype=pl.String)
        return len(np.intersect1d(self.item_keys, item_keys(ids)))

    def sentences(self, negative_actions: Collection[str]) -> list[str]:
        """Return what a user should know before the log is replayed.

        Args:
            negative_actions: Actions that make no positive of retrieval.
        """
        return [
            *self._of_actions(negative_actions),
            *self.losses(),
            *self._of_duplicates(),
            *self._of_users(),
            *self._of_ties(),
        ]

    def _of_actions(self, negative_actions: Collection[str]) -> list[str]:
        named = [
            f"{name} {count:,} ({'no positive' if name in negative_actions else 'positive'})"
            for name, count in sorted(self.actions.items(), key=_largest_first)[:_MOST_ACTIONS]
        ]
        if (more := len(self.actions) - _MOST_ACTIONS) > 0:
            named.append(f"{more:,} more")
        said = [f"Actions: {', '.join(named) or 'none'}."]
        if self.slates:
            said[0] += f" Shown: {self.shown:,} items in {self.slates:,} slates."
        return said

    def losses(self) -> list[str]:
        """Return sentences about rows that are no events."""
        said = []
        if bad := self.bad.total():
            kinds = "; ".join(f"{count:,} × {reason}" for reason, count in self.bad.most_common(8))
            said.append(f"{bad:,} of {self.read:,} rows are bad and left out: {kinds}.")
        if self.without_item:
            said.append(
                f"{self.without_item:,} rows have no id in {self.item_column!r}, with the lists exploded, and are no "
                "events."
            )
        return said

    def _of_duplicates(self) -> list[str]:
        if not self.duplicates:
            return []
        said = f"{self.duplicates:,} rows equal another in every column that is read"
        if self.dropped:
            return [f"{said}; they are left out."]
        why = "their times are whole hours or days" if self.whole_hours else "units of one order, or sent twice"
        why = f" ({why})"
        return [f"{said}, and count as events of their own{why}; --drop-duplicates keeps one of each."]

    def _of_users(self) -> list[str]:
        """Return a sentence about a user with a large share of all rows, who may be many that are not known."""
        nobody = [each for each in self.biggest.items() if each[0].lower() in _NOBODY]
        found = [each for each in nobody if each[1] >= _OF_NOBODY * self.rows]
        found += [each for each in self.biggest.items() if self.users >= _FEW and each[1] >= _OF_ONE * self.rows]
        if not found:
            return []
        user, count = found[0]
        return [
            f"User {user!r} has {count / self.rows:.0%} of the rows: if that stands for users who are not known, "
            "remove them, since a model would take them for one person."
        ]

    @property
    def ties_in_id_order(self) -> bool:
        """Whether ties are many, and in the order of ids."""
        ordered = self.ties.in_id_order + self.ties.other
        many = self.ties.rows >= max(1, _TIES_SAID * self.rows) and ordered >= _FEW
        return many and max(self.ties.in_id_order, self.ties.other) >= _IN_ID_ORDER * ordered

    def _of_ties(self) -> list[str]:
        ties = self.ties
        if ties.rows < max(1, _TIES_SAID * self.rows):
            return []
        said = f"{ties.rows / self.rows:.0%} of the events have the user and the time of the row before them"
        if self.ties_in_id_order:
            count, order = max((ties.in_id_order, "rising"), (ties.other, "falling"))
            share = count / (ties.in_id_order + ties.other)
            return [
                f"{said}, and {share:.0%} of these come in {order} order of the item's id: a model would learn that "
                "order, which says nothing about users. --shuffle-ties 1 removes it."
            ]
        return [f"{said}; they keep the file's order (--shuffle-ties SEED shuffles them)."]

    def late_actions(self, window_s: float) -> int:
        """Return how many actions come when the window of their request is over."""
        return sum(count for seconds, count in self.delays_s.items() if seconds >= window_s)

    def wide_requests(self, window_s: float) -> int:
        """Return how many requests span more than a window."""
        return sum(count for seconds, count in self.spans_s.items() if seconds >= window_s)


def _largest_first(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]


def _without_made_requests(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows without the request of one that was shown alone, which its number makes."""
    made = (pl.col("request") == pl.format("row-{}", pl.col("row") + 1)) & pl.col("row").is_unique()
    return rows.with_columns(request=pl.when(~made.fill_null(False)).then("request"))


def item_keys(ids: pl.Series) -> NDArray[np.uint64]:
    """Return hashes of ids, sorted and distinct."""
    return np.unique(ids.hash().to_numpy())
