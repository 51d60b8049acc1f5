"""Parts of a time in columns of their own, beside one of dates: times of the day, hours, zones; and dates' own offsets.

What stands in such a column is told by its contents, or by its name: `time`, `order_time` beside `order_date`, `hour`.
"""

import re
from typing import Final, NamedTuple

import polars as pl

from sim.sources.tables.cells import NO_VALUES, holds_lists, ids_of, without_fraction

DAY_MS: Final = 86_400_000
CLOCK: Final = (
    r"^(?P<h>\d{1,2})[:hH](?P<m>[0-5]\d)(:(?P<s>[0-5]\d([.,]\d+)?))?\s*(?P<half>[AaPp])?(\.?[Mm]\.?)?\s*"
    r"(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?$"
)
_RANGE: Final = r"^\d{1,2}:\d\d-\d\d:?\d\d$"  # 10:00-11:00, whose end is no offset
_LIKE_CLOCK: Final = r"^\d{1,2}\s*(:[0-5]\d\b|[hH]([0-5]\d)?\b|[aApP]\.?[mM]\b|Uhr)"
_OFFSET: Final = r"^(\d{4}-\d\d-\d\d|.*\d:\d\d(?::\d\d(?:[.,]\d+)?)?)\s*(Z|[+-]\d\d:?\d\d)$"
_CLOCKS: Final = ("timeofday", "eventtime", "time", "clock", "hms", "hhmmss", "hhmm", "hourmin", "tod")
_PARTS: Final = {  # how the name of a column ends, in small letters, and what it then holds
    "zones": r"(timezone|timezoneoffset|tzoffset|utcoffset|gmtoffset|offset|zone|tz)$",
    "halves of the day": r"(ampm|meridiem|meridian)$",
    "hours": r"(hourofday|hour|hr|hh)$",
    "minutes": r"(minute|minutes|min|mins|mm)$",
    "milliseconds": r"(millisecond|milliseconds|milli|millis|ms)$",
    "seconds": r"(second|seconds|sec|secs|ss)$",
    "times of the day": rf"({'|'.join(_CLOCKS)})$",
}
_OF_A_DAY: Final = {"minutes": 1_440, "seconds": 86_400, "milliseconds": DAY_MS}
_ONE: Final = r"(minute|min|mm|second|sec|ss)$"  # of an hour or a minute; several are mostly how long something took
_UTC: Final = r"^(utc|gmt|z|etc/utc|etc/gmt|[+-]?0{1,2}(:?00)?\]?)$"
_SIGNED: Final = r"^(UTC|GMT)? ?[+-]\d|^[A-Z]\w+/[A-Z]"
_BESIDE: Final = r"^[+-]\d\d:?\d\d\]?$"  # in a column of any name, as +0200] in logs of web servers
_ABBREVIATED: Final = r"^[A-Za-z]{2,5}$"
HOURS: Final = "hours"
_LEAST: Final = 60  # numbers below, in any row, may be hours or minutes
TIMES, HHMM, HHMMSS = "times of the day", "times as HHMM", "times as HHMMSS"


def clock_of(column: pl.Series, dates: str | None = "") -> str | None:
    """Return what a column holds, if it is a time of the day by its type, its texts, or its name and its numbers.

    Args:
        column: The column.
        dates: Name of the column of dates beside it; None: it is added to one, whatever that is called.
    """
    if column.dtype == pl.Time:
        return TIMES
    if column.dtype in (pl.Boolean, pl.Binary) or column.dtype.is_temporal() or holds_lists(column):
        return None
    texts = _given(column)
    if _most(texts.str.contains(CLOCK) & ~texts.str.contains(_RANGE), 0.5):
        return TIMES
    name = _letters(column.name)
    numbers = without_fraction(texts).cast(pl.Int64, strict=False).drop_nulls()
    if len(numbers) * 2 <= len(texts):
        return None
    if re.search(_PARTS[HOURS], name) and _most(numbers.is_between(0, 23)):
        return HOURS
    if not re.search(_PARTS[TIMES], name) or (dates is not None and _stem(name, TIMES) not in _stems(dates)):
        return None
    if not (numbers >= _LEAST).any():
        return None  # as well hours or minutes
    if _most(numbers.is_between(0, 2359) & (numbers % 100 < 60)):
        return HHMM
    fits = numbers.is_between(0, 235_959) & (numbers % 100 < 60) & (numbers // 100 % 100 < 60)
    return HHMMSS if _most(fits) else None


def belongs_to(clock: str, dates: str) -> bool:
    """Return whether a column of times of the day is by its name that of a column of dates: time, order_time."""
    return _part_by_name(clock, dates) is not None


def part_of(column: pl.Series, dates: str) -> str | None:
    """Return which part of a time a column looks like by its name or its contents, whether it can be read or not.

    Args:
        column: The column.
        dates: Name of the column of times beside it.
    """
    texts = _given(column)
    if not len(texts) or column.dtype in (pl.Boolean, pl.Date) or isinstance(column.dtype, pl.Datetime):
        return None
    part = _part_by_name(column.name, dates)
    if column.dtype == pl.Duration:
        return part and TIMES
    if part in _OF_A_DAY:
        numbers = without_fraction(texts).cast(pl.Int64, strict=False)
        fit = _most(numbers.is_between(0, 59)) if re.search(_ONE, _letters(column.name)) else _spread(numbers, part)
        return part if fit else None
    if part == "zones":
        return part if _are_zones(column.name, texts) else None
    if part is None and _most(texts.str.contains(_BESIDE)):
        return None if texts.str.contains(_UTC).all() else "zones"
    if part is None and (column.dtype == pl.Time or _most(texts.str.contains(_LIKE_CLOCK), 0.5)):
        return TIMES
    return part


def _spread(numbers: pl.Series, part: str) -> bool:
    """Return whether numbers are as those of all since midnight are: over more than half of a day, and no more."""
    most = numbers.max()
    far = isinstance(most, int) and most * 2 > _OF_A_DAY[part]
    return far and _most(numbers.is_between(0, _OF_A_DAY[part] - 1))


def _are_zones(name: str, texts: pl.Series) -> bool:
    """Return whether texts are zones other than UTC; those of `offset` and `zone`, which may be others, have signs."""
    if texts.str.to_lowercase().str.contains(_UTC).all():
        return False
    if _most(texts.str.contains(_SIGNED), 0.5):
        return True
    numbers = without_fraction(texts).cast(pl.Int64, strict=False)
    plain = texts.str.contains(_ABBREVIATED) | (numbers.is_between(-840, 840) & (numbers != 0).any())
    return _letters(name) not in ("offset", "zone") and _most(plain, 0.5)


def _part_by_name(name: str, dates: str) -> str | None:
    letters = _letters(name)
    for part, ends in _PARTS.items():
        if re.search(ends, letters):
            return part if _stem(letters, part) in _stems(dates) else None
    return None


def _stem(letters: str, part: str) -> str:
    return re.sub(_PARTS[part], "", letters)


def _stems(dates: str) -> tuple[str, ...]:
    """Return what stands before the names of parts of the times of a column of dates: order, of order_date."""
    return "", "event", "local", re.sub(r"(date|day|dt|on|timestamp|time|ts|at)$", "", _letters(dates))


class Dated(NamedTuple):
    """A column of dates, and the offsets that stood behind them."""

    plain: pl.Series
    shift_ms: pl.Series
    """Milliseconds by which each is ahead of UTC, null where it says nothing."""


def without_offsets(column: pl.Series) -> Dated:
    """Return dates by their own clocks: 2024-05-01+02:00 is a day that begins two hours earlier than UTC's."""
    if column.dtype != pl.String:
        zone = getattr(column.dtype, "time_zone", None)
        plain = column.dt.replace_time_zone(None) if zone is not None else column
        return Dated(plain, pl.repeat(None, len(column), dtype=pl.Float64, eager=True))
    texts = column.str.strip_chars()
    parts = texts.str.extract_groups(_OFFSET).struct.unnest()
    return Dated(pl.select(pl.coalesce(parts["1"], texts)).to_series().alias(column.name), shift_of(parts["2"]))


def shift_of(zones: pl.Series) -> pl.Series:
    """Return the milliseconds that offsets such as +02:00 are ahead of UTC, null where there is none."""
    digits = zones.str.replace(":", "", literal=True)
    hours = digits.str.slice(1, 2).cast(pl.Float64, strict=False)
    size = hours * 3.6e6 + digits.str.slice(3, 2).cast(pl.Float64, strict=False) * 6e4
    signed = size * zones.str.starts_with("-").cast(pl.Float64) * -2 + size
    return signed.fill_null(0.0).set(zones.is_null(), None)


def ranges_of(texts: pl.Series) -> pl.Series:
    """Return which texts are two times of the day, from and to."""
    return texts.str.contains(_RANGE).fill_null(False)


def _given(column: pl.Series) -> pl.Series:
    texts = ids_of(column.drop_nulls())
    return texts.filter(texts.is_not_null() & ~texts.str.to_lowercase().is_in(NO_VALUES))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower().rpartition(".")[2])


def _most(fits: pl.Series, share: float = 0.95) -> bool:
    return len(fits) > 0 and int(fits.sum()) >= share * len(fits)
