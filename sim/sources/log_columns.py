"""The columns of a recorded log, and what its rows become."""

import math
from collections import Counter
from dataclasses import dataclass, fields
from typing import Literal, get_args

import polars as pl

from sim.errors import SimError
from sim.sources.roles.resolve import DEFAULTS, alternatives
from sim.sources.tables.bad_rows import SkipLimit
from sim.sources.tables.cells import given_ids
from sim.sources.tables.settings import TableSettings
from sim.sources.tables.timestamps import TimeSettings

RatingAs = Literal["action", "impression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How a log is read; each field is the flag of `hstu replay` with its name."""

    user: str = DEFAULTS["user"]
    """Column of users; of several with commas between, the first that has a value counts."""
    item: str = DEFAULTS["item"]
    """Column of items; of several as well."""
    time: str = DEFAULTS["time"]
    time_offset: str | None = None
    """Column added to `time`: a number, or a time of the day (rows/times.py)."""
    action: str | None = None
    """Column of action names, or of labels 0 and 1; without it and `rating`, every row is a `click`."""
    rating: str | None = None
    """Column of ratings."""
    request: str | None = None
    """Column of request ids: the rows of one user and request were shown together."""
    shown: str | None = None
    """Column of whole slates: a list, or a text of ids, each with -0 or -1 behind it where that is its label."""
    clicked: str | None = None
    """Column of the items of `shown` that were clicked."""
    rating_as: RatingAs = "action"
    positive_from: float | None = None
    """Least rating that is a `like`; a lower one is a `dislike`, or no action on an impression. None: all `rate`."""
    time_unit: str | None = None
    """Unit of times that are numbers, or of `time_offset` where there is one; None: by their median, ms."""
    time_format: str | None = None
    """Format of times that are texts, as strptime has it."""
    time_zone: str | None = None
    """Zone of times without an offset; None: UTC."""
    skip_bad: str | None = None
    """Bad rows that are left out at most: a number, a share as 1%, or all; None refuses the log."""
    bad_rows: str | None = None
    """File of the rows that were left out."""
    drop_duplicates: bool = False
    """Whether of rows that are equal in all columns read only the first counts."""
    shuffle_ties: int | None = None
    """Seed that shuffles the rows of one user at one instant; None keeps the file's order."""
    limit: int | None = None
    """Rows at most, the earliest ones; a log in time order is read no further than they need (earliest.py)."""
    separator: str | None = None
    quote: str | None = None
    encoding: str | None = None
    header: bool | None = None
    explode: str | None = None

    def __post_init__(self) -> None:
        if self.rating_as not in get_args(RatingAs):
            raise SimError(f"--rating-as {self.rating_as} is unknown; known are {', '.join(get_args(RatingAs))}.")
        if self.rating is None and (self.rating_as == "impression" or self.positive_from is not None):
            raise SimError("--rating-as and --positive-from speak of ratings; name their column by --rating.")
        if self.rating is not None and self.action is not None:
            raise SimError("A row becomes an action by --action or by --rating, not by both; remove one.")
        if self.request is not None and self.shown is None and self.action is None and self.rating is None:
            raise SimError("--request needs --action or --rating, which say what was acted on of what was shown.")
        if self.request is not None and self.rating_as == "impression" and self.positive_from is None:
            raise SimError("--request with --rating-as impression needs --positive-from: lower ratings are no action.")
        if self.clicked is not None and self.shown is None:
            raise SimError("--clicked names some of the items of a slate; name the column of the slate by --shown.")
        if self.bad_rows is not None and self.skip_bad is None:
            raise SimError("--bad-rows keeps the rows that --skip-bad leaves out; give that too.")
        if self.shuffle_ties is not None and self.shuffle_ties < 0:
            raise SimError(f"--shuffle-ties {self.shuffle_ties} is no seed; give 0 or a positive number.")
        if self.positive_from is not None and not math.isfinite(self.positive_from):
            raise SimError(f"--positive-from {self.positive_from} is no rating; give a number.")
        if self.limit is not None and self.limit < 1:
            raise SimError(f"--limit {self.limit} leaves no rows; give a positive number.")
        SkipLimit(self.skip_bad)
        self.table(), self.times()

    def table(self) -> TableSettings:
        """Return how its files are written.

        Raises:
            SimError: A setting is no such thing.
        """
        own = {field.name: getattr(self, field.name) for field in fields(TableSettings) if hasattr(self, field.name)}
        numbered = self.time.isdigit() and all(name.isdigit() for name in self.user.split(","))
        lists = tuple(name for name in (self.shown, self.clicked) if name)
        return TableSettings(**own, numbered=numbered, lists=lists)

    def times(self) -> TimeSettings:
        """Return how its times are read.

        Raises:
            SimError: A setting is no such thing.
        """
        made = TimeSettings(self.time_unit, self.time_format, self.time_zone)
        made.refuse_zone_names()
        return made

    def columns(self, there: list[str]) -> list[str]:
        """Return the names of the columns that are read; beside slates in one row, those of items may be missing."""
        items = alternatives(self.item, there)
        if self.shown is not None:
            items = [name for name in items if name in there]
        named = (self.time, self.time_offset, self.action, self.rating, self.request, self.shown, self.clicked)
        return [name for name in (*alternatives(self.user, there), *items, *named) if name]

    def with_first_values(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with a column of ids for each flag that names several; it has the name that the flag gives."""
        for flag in (self.user, self.item):
            names = [name for name in alternatives(flag, rows.columns) if name in rows.columns]
            if flag not in rows.columns and names:
                rows = rows.with_columns(pl.coalesce(given_ids(rows[name]) for name in names).alias(flag))
        return rows

    def later_values(self, rows: pl.DataFrame) -> Counter[str]:
        """Return how many rows have their id in another column than the first that a flag names, by that column."""
        counts = Counter[str]()
        for flag in (self.user, self.item):
            names = [name for name in alternatives(flag, ()) if name in rows.columns]
            open_ = pl.repeat(True, len(rows), eager=True)
            for number, name in enumerate(names if len(names) > 1 else ()):
                there = open_ & given_ids(rows[name]).is_not_null()
                counts[name] += int(there.sum()) if number else 0
                open_ &= ~there
        return counts

    def tag(self) -> str:
        """Return a text that is equal only for settings that make equal events."""
        return ",".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
