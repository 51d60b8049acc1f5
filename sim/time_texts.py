"""Texts of times, in a format of strptime or as ISO-8601, and the names of zones in them.

Behind a time may stand UTC, GMT, an offset, or a zone's name (Europe/Berlin, [Europe/Berlin]). An abbreviation such as
PST, which several zones have, is read where it is one of the zone by whose clock times without an offset are.
"""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from sim.errors import SimError
from sim.local_times import LocalTimes

_DATES: Final = (
    *("%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%Y/%m/%d", "%d.%m.%Y", "%d.%m.%y", "%Y.%m.%d"),
    *("%m-%d-%Y", "%d-%m-%Y", "%Y-%m-%d", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"),
)
_CLOCKS: Final = (" %I:%M:%S %p", " %I:%M %p", " %H:%M:%S", " %H:%M", " %H:%M:%S %z", "")
FORMATS: Final = (
    *(date + clock for date in _DATES for clock in _CLOCKS),
    *("%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z", "[%d/%b/%Y:%H:%M:%S %z]"),
    "%a %b %d %Y %H:%M:%S GMT%z",  # JavaScript
    *("%d-%b-%y %I.%M.%S %p", "%Y-%m-%d-%H.%M.%S"),  # Oracle, DB2
)
DIGITS: Final = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%3f"}
_ZONE: Final = r"\s*(UTC|GMT|Z\[(UTC|GMT)\])$"
_ISO: Final = "%Y-%m-%d %H:%M:%S%.f"
_TO_MINUTES: Final = r"^\d{4}-\d\d-\d\d \d\d:\d\d$"
_DAYS_END: Final = r"([ T])24:(00(?::00(?:[.,]0+)?)?(?: ?[+-][\d:]+|Z)?)$"  # 24:00 of a day is 00:00 of the next
_OFFSET: Final = (
    r"(Z|UTC|GMT|\]|\d ?[A-Z]{3,5}|[A-Za-z]/[\w+-]+|"
    r"(\d:\d\d(:\d\d([.,]\d+)?)?|^\d{4}-\d\d-\d\d) ?[+-]\d\d(:?\d\d)?)$"
)
_DATE_WITH_OFFSET: Final = r"^(\d{4}-\d\d-\d\d) ?(Z|[+-]\d\d:?\d\d)$"
_RANGE: Final = r"\D\d\d:\d\d-\d\d:?\d\d$"  # 10:00-13:00, of which no offset is so large
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAMED: Final = re.compile(r"(.*\d(?:Z|[+-][\d:]+)?)\s*\[?([A-Z][A-Za-z]+(?:/[\w+-]+)+)\]?")
_SHORT: Final = re.compile(r"(.*\d)\s*([A-Z]{3,5})")
_AT_END: Final = r"\d ?([A-Z]{3,5})(?: \d{4})?$"
_IN_FORMAT: Final = re.compile(r"%Z|(?<![A-Za-z%])(?!UTC|GMT)[A-Z]{3,5}$")
_LIVED: Final = range(1990, 2031)  # years whose abbreviations are known


def parsed(texts: pl.Series, form: str) -> pl.Series:
    """Return the instants of texts in a format of strptime, null where they are in another."""
    texts, form = _for_polars(texts, form)
    has_time = any(letter in form for letter in ("%H", "%I", "%T", "%R", "%X", "%s", "%c"))
    if has_time and (ends := texts.str.contains(_DAYS_END).fill_null(False)).any():
        begins = parsed(texts.str.replace(_DAYS_END, "${1}00:${2}"), form)
        return begins.zip_with(~ends, begins + timedelta(days=1))
    try:
        if has_time:
            return texts.str.to_datetime(form, time_unit="us", strict=False)
        return texts.str.to_date(form, strict=False).cast(pl.Datetime("us"))
    except pl.exceptions.PolarsError as error:
        first_line = str(error).partition("\n")[0]
        raise SimError(f"--time-format {form} cannot be used: {first_line}") from None


def _for_polars(texts: pl.Series, form: str) -> tuple[pl.Series, str]:
    """Return texts and their format as polars reads them: with minutes, with offsets for UTC, fractions optional."""
    if form in DIGITS.values():
        length = next(length for length, digits in DIGITS.items() if digits == form)
        texts = texts.str.extract(rf"^(\d{{{length}}})(\.0)?$")
        if length == 17:
            texts, form = texts.str.replace(r"(\d{3})$", ".$1"), form.replace("%3f", "%.f")
    elif form in FORMATS:
        form = form.replace("%S", "%S%.f")
    if "GMT%z" in form:
        texts = texts.str.replace(r" \(.*\)$", "")
    elif "%z" in form:
        texts = texts.str.replace(r"\b(UTC|GMT)\b|Z$", "+0000")
    if ("%H" in form or "%I" in form) and "%M" not in form:
        texts, form = texts + " 00", form + " %M"
    return texts, form.replace(".%f", "%.f")


def iso_ms(texts: pl.Series, local: LocalTimes, offsets: Counter[bool] | None = None) -> pl.Series:
    """Return the milliseconds of ISO-8601 texts, null where they are none; count those with and without an offset."""
    plain = texts.str.replace("T", " ", literal=True).str.replace(_ZONE, "Z").str.replace(_TO_MINUTES, "$0:00")
    ts_ms = local.instants(parsed(plain, _ISO)).dt.timestamp("ms")
    without = ts_ms.count()
    if ts_ms.null_count():
        utc = parsed(plain.str.strip_suffix("Z"), _ISO)
        in_utc = utc.set(~plain.str.ends_with("Z").fill_null(False), None).dt.timestamp("ms")
        ts_ms = ts_ms.zip_with(ts_ms.is_not_null(), in_utc)
    if ts_ms.null_count() > texts.null_count():
        left = texts.filter(ts_ms.is_null() & texts.is_not_null()).unique()
        by_hand = {text: ms for text in left if (ms := _by_hand_ms(text, ZoneInfo(local.zone))) is not None}
        if by_hand:
            found = texts.replace_strict(by_hand, default=None, return_dtype=pl.Int64)
            ts_ms = ts_ms.zip_with(ts_ms.is_not_null(), found)
    if offsets is not None:
        others = texts.filter(ts_ms.is_not_null()) if ts_ms.count() > without else texts.clear()
        zoned = int(others.str.contains(_OFFSET).sum())
        offsets.update({True: zoned, False: ts_ms.count() - zoned})
    return ts_ms


def _by_hand_ms(text: str, zone: ZoneInfo) -> int | None:
    if (named := _NAMED.fullmatch(text)) is not None:
        try:
            text, zone = named[1], ZoneInfo(named[2])
        except (ZoneInfoNotFoundError, ValueError):
            return None
    elif (short := _SHORT.fullmatch(text)) is not None and short[2] in abbreviations(zone.key):
        text = short[1] + abbreviations(zone.key)[short[2]]
    for suffix in ("UTC", "GMT", "Z[UTC]", "Z[GMT]"):
        text = text.removesuffix(suffix).rstrip() + "Z" if text.endswith(suffix) else text
    text, ends = re.subn(_DAYS_END, r"\g<1>00:\2", text)
    text = re.sub(_DATE_WITH_OFFSET, r"\1T00:00\2", text) if 10 < len(text) < 18 else text
    head, blank, offset = text.rpartition(" ")
    if blank and offset[:1] in ("+", "-"):
        text = head + offset
    try:
        instant = datetime.fromisoformat(text) + timedelta(days=ends)
        if (instant.utcoffset() or timedelta()) < timedelta(hours=-12) and re.search(_RANGE, text):
            return None
        at = (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)
        if instant.tzinfo is None and at.astimezone(zone).replace(tzinfo=None) != instant:
            return None  # summer time leaves it out
    except (ValueError, OverflowError):
        return None
    return (at - _EPOCH) // timedelta(milliseconds=1)


def names_zone(form: str) -> bool:
    """Return whether a format has the name of a zone in it, which says nothing by itself: %Z, or PST at its end."""
    return _IN_FORMAT.search(form) is not None


@cache
def abbreviations(zone: str) -> dict[str, str]:
    """Return the abbreviations that a zone has for one offset each, as {"CET": "+0100", "CEST": "+0200"}."""
    found = dict[str, set[str]]()
    for year, month in product(_LIVED, (1, 7)):
        at = datetime(year, month, 1, tzinfo=ZoneInfo(zone))
        found.setdefault(at.tzname() or "", set()).add(f"{at:%z}")
    return {name: offset for name, (offset, *more) in found.items() if name.isalpha() and not more}


def with_offsets(texts: pl.Series, zone: str) -> pl.Series:
    """Return texts with offsets in place of a zone's abbreviations."""
    for name, offset in abbreviations(zone).items():
        texts = texts.str.replace(rf"\b{name}\b", offset)
    return texts


def hint(texts: pl.Series, zone: str | None) -> str:
    """Return what most of some texts need that are no times as they are, in brackets; nothing if that is not known.

    Args:
        texts: The texts.
        zone: The zone by whose clock they are, if it is said.
    """
    short = texts.str.extract(_AT_END).drop_nulls()
    if len(short) * 2 > len(texts):
        if zone is not None:
            return f" ({short[0]} is no abbreviation of {zone}, or one of two offsets)"
        return (
            f" ({short[0]} names a zone, and several may have that name: say which by --time-zone, as "
            "America/Los_Angeles for PST and PDT)"
        )
    if int(texts.str.contains(r"^/Date\(").sum()) * 2 > len(texts):
        return " (write the number inside, which is milliseconds)"
    return ""
