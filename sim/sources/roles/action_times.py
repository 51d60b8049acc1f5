"""Columns of when something was done to what a row names, which some rows lack: click_time beside impression_time."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from sim.sources.roles.contents import are_empty, follows, words_of
from sim.sources.roles.names import Doubt
from sim.sources.tables.cells import ids_of

_DONE: Final = (
    r"(view|click|open|purchase|buy|order|play|like|watch|share|save|read|visit|download|install|listen|rate|add|"
    r"follow|comment|subscribe|convert|complete|dismiss|dislike|remove|delete|return|refund|cancel|hide|book|redeem|"
    r"abandon|reject|accept|unsubscribe|respond|expire|skip)(d|ed|led|ped)?|conversion|reply|replied|bought|hidden|"
    r"response"
)
_TIMES: Final = rf"^(is_|was_)?({_DONE})_?(at|on|time|ts|tms|timestamp|date|datetime|time_ms|ts_ms)$"
_NEVER: Final = r"^(0|0\.0|-1|0000-00-00.*)$"
_GAPS: Final = 0.05  # share of rows without a time from which it may say that nothing was done
_LEAST: Final = 19_000_000  # 1900 as a date in digits, and more than what something took


def undone(sample: pl.DataFrame, columns: Sequence[str], ids: Sequence[str]) -> Iterator[Doubt]:
    """Yield a doubt about columns of times of what was done in some rows only, where each row would be a click.

    Args:
        sample: The first rows.
        columns: Those without a role.
        ids: Those of users and items, whose own times are others.
    """
    for name in columns:
        if not re.search(_TIMES, words_of(name)):
            continue
        gaps = are_empty(sample[name]) | ids_of(sample[name]).str.contains(_NEVER).fill_null(False)
        share = int(gaps.sum()) / max(1, len(sample))
        if share < _GAPS or not _are_times(sample[name].filter(~gaps)):
            continue
        if any(follows(sample, name, of) for of in ids):
            continue
        said = (
            f"Column {name!r} holds no time in {share:.0%} of the rows, as if what it names was not done in these, and "
            "is not read, so that each row is a click: write what was done into a column for --action, or leave those "
            "rows out; --time alone takes the rows as they are."
        )
        yield Doubt("time", said, ("action", "rating", "shown"))


def _are_times(given: pl.Series) -> bool:
    """Return whether cells are times by their type, by their size, or by a year in them."""
    if given.dtype in (pl.Date, pl.Datetime):
        return len(given) > 0
    texts = ids_of(given).drop_nulls()
    numbers = texts.cast(pl.Float64, strict=False)
    return len(texts) > 0 and bool(((numbers >= _LEAST) | (numbers.is_null() & texts.str.contains(r"\d{4}"))).all())
