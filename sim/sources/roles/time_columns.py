"""Which column holds the times, which one is added to it, and what speaks against reading them so.

A guess is doubtful where another column looks like a part of the time that would not be read, or holds likelier times.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import available_timezones

import polars as pl

from sim.errors import SimError
from sim.sources.roles.contents import follows
from sim.sources.roles.names import Certainty, Doubt, Role, best_of, named_like, plain_name
from sim.sources.rows.clocks import DAY_MS, HOURS, TIMES, belongs_to, clock_of, part_of, without_offsets
from sim.sources.tables.cells import holds_lists, ids_of
from sim.sources.tables.timestamps import AmbiguousTimesError, TimeReader, TimeSettings

_TIME_MS: Final = 1e11  # March 1973
_1990_MS: Final = 631_152_000_000
_MANY: Final = 20  # rows, in fewer of which one value is no sign
_SOME_DAYS: Final = 10  # in fewer, small numbers may be any
_OF_DAYS: Final = ("day", "date", "dt")
_NAMED: Final = 5
_LIKE_TIMES: Final = r"time|date|(_|\.)at$|ts$"
_MADE: Final = r"add|creat|insert|start"
_CHANGED: Final = r"updat|modif|chang|edit|delet|read|end|finish"
"""Words in the names of columns of when a row was made, and when it was touched later."""
_ELSEWHERE: Final = "Asia/Tokyo"
_GRAINS: Final = ((DAY_MS, "whole days"), (3_600_000, "whole hours"), (60_000, "whole minutes"))
_FINER: Final = {  # what a column of times of a grain lacks
    "whole days": ("hours", "minutes", "seconds", "milliseconds", "times of the day", "halves of the day", "zones"),
    "whole hours": ("minutes", "seconds", "halves of the day", "zones"),
    "whole minutes": ("seconds", "halves of the day", "zones"),
    "": ("halves of the day", "zones"),
}


Held = Literal["times", "ambiguous times", "others"]


class TimeGuess(NamedTuple):
    """The columns of times."""

    roles: dict[str, Role]
    doubts: list[Doubt]


class _Times:
    """Reads columns of a sample as times, each once."""

    def __init__(self, sample: pl.DataFrame, settings: TimeSettings) -> None:
        self.sample, self._settings = sample, settings
        self._read = dict[str, pl.Series]()
        self._held = dict[str, Held]()

    def holds(self, name: str) -> Held:
        """Return what most values of a column are."""
        if name not in self._held:
            self._held[name] = self._look(name)
        return self._held[name]

    def _look(self, name: str) -> Held:
        given = self.sample[name].drop_nulls()
        if not len(given) or given.dtype in (pl.Boolean, pl.Binary):
            return "others"
        try:
            ts_ms, faults = TimeReader(self._settings, given, "the log").read(given)
        except AmbiguousTimesError:
            return "ambiguous times"
        except SimError:
            return "others"
        wrong = pl.Series([False]).new_from_index(0, len(given))
        for fault in faults:
            wrong = wrong | fault.wrong
        if not len(ts_ms) or wrong.mean() >= 0.5:  # type: ignore[operator]
            return "others"
        self._read[name] = ts_ms
        return "times"

    def ms(self, name: str) -> pl.Series:
        """Return the milliseconds of a column that holds times, without those that are missing."""
        return self._read[name].drop_nulls()

    def are_plain(self, name: str) -> bool:
        """Return whether values are times that numbers by chance are not: dates, or later than 1973."""
        given = self.sample[name].drop_nulls()
        numbers = given.cast(pl.Float64, strict=False).drop_nulls() if given.dtype == pl.String else None
        are_numbers = given.dtype.is_numeric() or (numbers is not None and len(numbers) * 2 > len(given))
        return not (are_numbers and self._median(name) < _TIME_MS)

    def _median(self, name: str) -> float:
        median = self.ms(name).median()
        return float(median) if isinstance(median, float | int) else 0.0

    def are_recent(self, name: str) -> bool:
        """Return whether most lie between 1990 and the end of the next year, as those of most logs do."""
        end = datetime(datetime.now(UTC).year + 2, 1, 1, tzinfo=UTC).timestamp() * 1000
        return _1990_MS <= self._median(name) < end

    def are_one(self, name: str) -> bool:
        """Return whether many rows have the same time, which is no day."""
        ms = self.ms(name)
        return len(ms) >= _MANY and ms.n_unique() == 1 and self.grain(name) != "whole days"

    def year(self, name: str) -> int:
        """Return the year of most."""
        return datetime.fromtimestamp(self._median(name) / 1000, UTC).year

    def grain(self, name: str) -> str:
        """Return what all are, by their own clocks: whole days, hours or minutes; empty if none of these."""
        given = without_offsets(self.sample[name].drop_nulls()).plain
        try:
            ts_ms, _ = TimeReader(replace(self._settings, zone=None), given, "the log").read(given)
        except SimError:
            return ""
        return next((words for ms, words in _GRAINS if ts_ms.count() and (ts_ms.drop_nulls() % ms == 0).all()), "")

    def are_local(self, name: str) -> bool:
        """Return whether they have no offset of their own and are no numbers since 1970."""
        given = self.sample[name].drop_nulls()
        here, there = (TimeReader(TimeSettings(None, self._settings.format, zone), given, "the log") for zone in _ZONES)
        return not here.read(given)[0].equals(there.read(given)[0])


_UNITS: Final = {"minutes": "minutes", "seconds": "s", "milliseconds": "ms"}
_ZONES: Final = (None, _ELSEWHERE)


def time_columns(
    sample: pl.DataFrame, columns: Sequence[str], named: Mapping[str, Any], settings: TimeSettings
) -> TimeGuess:
    """Return the column of times; where it holds dates, also one of times of the day, if there is one.

    Args:
        sample: The first rows.
        columns: Its columns that may be either.
        named: Role → column, of those that are known.
        settings: How times are read.
    """
    times = _Times(sample, settings)
    clocks = {name: clock for name in columns if (clock := clock_of(sample[name])) is not None}
    given = named.get("time")
    roles, doubts = dict[str, Role](), list[Doubt]()
    if given is not None:
        if given not in sample.columns or holds_lists(sample[given]) or times.holds(given) != "times":
            return TimeGuess({}, [])
        dates = str(given)
    else:
        found, several = _time(times, [name for name in columns if name not in clocks])
        if clocks and (found is None or found.certainty == "unsure"):
            found, several = _time(times, columns)
        if found is None:
            return TimeGuess({}, [])
        found, doubts = _likelier(times, found, [name for name in columns if name not in clocks])
        doubts += several if found.certainty == "likely" else []
        doubts += _of_months(sample[found.column])
        roles["time"], dates = found, found.column
    if times.holds(dates) != "times" or not times.are_plain(dates):
        return TimeGuess(roles, doubts)
    others = [name for name in columns if name != dates]
    clocks |= {name: clock for name in others if (clock := clock_of(sample[name], dates)) is not None}
    grain, own = times.grain(dates), named.get("time_offset")
    if own is not None and own not in sample.columns:
        return TimeGuess(roles, doubts)
    if own is None and grain == "whole days":
        clocks.pop(dates, None)
        if (added := _added(clocks, dates)) is not None:
            roles["time_offset"], own = added, added.column if added.certainty == "sure" else None
    if own is not None:
        grain = "whole hours" if clocks.get(own) == HOURS else ""
    doubts += _of_parts(times, dates, own, grain, [name for name in others if name != own])
    if grain == "whole days":
        doubts += _of_finer(times, dates, others)
    return TimeGuess(roles, doubts)


def _time(times: _Times, columns: Sequence[str]) -> tuple[Role | None, list[Doubt]]:
    """Return the column of times; where none is plainly one, one whose times may be read in two ways."""
    holds = {name: times.holds(name) for name in columns}
    for wanted in ("times", "ambiguous times"):
        fitting = [name for name in columns if holds[name] == wanted]
        if (found := best_of("time", fitting)) is not None:
            if wanted == "times" and plain_name(found.column) in _OF_DAYS and not times.are_plain(found.column):
                return Role(found.column, "unsure", "its name is one of dates, but its values are small numbers"), []
            return found, []
        strong = [name for name in fitting if wanted != "times" or times.are_plain(name)]
        if len(strong) > 1 and wanted == "times":
            return _of_several(times, strong)
        if strong:
            return Role(strong[0], "likely" if len(strong) == 1 else "unsure", f"its values are {wanted}"), []
    return None, []


def _of_several(times: _Times, strong: Sequence[str]) -> tuple[Role, list[Doubt]]:
    """Return of several columns of times that which is likeliest when a row was made, and a doubt that names others."""
    recent = [name for name in strong if times.are_recent(name)] or list(strong)
    ordered = sorted(
        recent, key=lambda name: (not re.search(_MADE, name.lower()), bool(re.search(_CHANGED, name.lower())))
    )
    found = Role(ordered[0], "likely", "its values are times")
    if len(ordered) == 1:
        return found, []
    said = f"Columns {' and '.join(map(repr, ordered[:_NAMED]))} hold times: name the right one by --time."
    return found, [Doubt("time", said, (), {"time": ordered[0]}, {"time": ordered[1]})]


def lone_time(sample: pl.DataFrame, name: str, ids: Sequence[str], settings: TimeSettings) -> bool:
    """Return whether a column holds plain times of these years, and not those of users or items, as of a release.

    Args:
        sample: The first rows.
        name: The column.
        ids: Those of users and items.
        settings: How times are read.
    """
    times = _Times(sample, settings)
    plain = times.holds(name) == "times" and times.are_plain(name) and times.are_recent(name)
    return plain and not any(follows(sample, name, of) for of in ids)


def _likelier(times: _Times, found: Role, columns: Sequence[str]) -> tuple[Role, list[Doubt]]:
    """Return the role of times, and a doubt where they are in odd years, or all one, and those of a column are not."""
    if times.holds(found.column) != "times":
        return found, []
    if times.are_recent(found.column):
        others = [name for name in columns if times.holds(name) == "times" and times.are_plain(name)]
        varied = next((name for name in others if times.ms(name).n_unique() > 1 and times.are_recent(name)), None)
        if varied is None or not times.are_one(found.column):
            return found, []
        said = (
            f"Column {found.column!r} holds one time in all rows, and {varied!r} several: name the right one by --time."
        )
        return found, [Doubt("time", said, (), {"time": varied})]
    recent = [
        name for name in columns if times.holds(name) == "times" and times.are_plain(name) and times.are_recent(name)
    ]
    if not recent:
        alike = [name for name in columns if name != found.column and named_like("time", name)]
        small = next((name for name in alike if times.holds(name) == "times"), None)
        if small is None:
            return found, []
        said = (
            f"Columns {found.column!r} and {small!r} hold small numbers: say by --time and --time-unit what they are."
        )
        return found, [Doubt("time", said)]
    named = [name for name in recent if re.search(_LIKE_TIMES, name.lower())]
    better = best_of("time", recent) or (Role(named[0], "likely", "its values are times") if named else None)
    said = (
        f"Column {found.column!r}, read as times, lies in {times.year(found.column)}, and {recent[0]!r} in "
        f"{times.year(recent[0])}: name the right one by --time."
    )
    return better or found, [Doubt("time", said)]


def _of_months(column: pl.Series) -> Iterator[Doubt]:
    """Yield a doubt about a column of months and days without a year, which would be seconds of 1970."""
    given = ids_of(column).drop_nulls()
    days = given.cast(pl.Int64, strict=False)
    zeros = given.str.contains(r"^0\d{3}$").any() and (given.str.len_chars() == 4).all()
    if len(given) < _MANY or days.has_nulls() or not (zeros or days.n_unique() >= _SOME_DAYS):
        return
    if (days // 100).is_between(1, 12).all() and (days % 100).is_between(1, 31).all():
        said = f"Column {column.name!r}, with cells such as {given[0]!r}, looks like months and days without a year"
        yield Doubt("time", f"{said}: write dates, as 2024-08-29; --time {column.name} takes them as seconds.")


def _added(clocks: Mapping[str, str], dates: str) -> Role | None:
    """Return the column of times of the day or hours that is added to dates."""
    if not clocks:
        return None
    own = [name for name in clocks if belongs_to(name, dates)]
    fine = [name for name in own if clocks[name] != HOURS] or own
    best = (fine or list(clocks))[0]
    beside = dates.isdigit() and best.isdigit() and int(best) == int(dates) + 1 and clocks[best] != HOURS
    certainty: Certainty = "sure" if len(fine) == 1 or beside else "unsure"
    return Role(best, certainty, f"it holds {clocks[best]}, and {dates} dates")


def _of_parts(times: _Times, dates: str, own: str | None, grain: str, others: Sequence[str]) -> Iterator[Doubt]:
    """Yield a doubt for each column that looks like a part of the times which they lack, and is not read.

    Args:
        times: The columns.
        dates: That of the times.
        own: The one that is added to it, if there is one.
        grain: What both together are.
        others: The rest.
    """
    sample = times.sample
    halved = own is not None and bool(ids_of(sample[own]).str.contains(r"(?i)[ap]\.?m").any())
    for name in others:
        part = part_of(sample[name], dates)
        if part is None or part not in _FINER[grain] or (part == "halves of the day" and halved):
            continue
        if part == "zones":
            if times.are_local(dates) and not (own and _zoned(sample[own])):
                yield _of_zone(sample[name], dates)
            continue
        cell = str(ids_of(sample[name]).drop_nulls()[0])
        what = f"Column {name!r}, with cells such as {cell!r}, looks like {part} of {dates!r}, and is not read"
        readable = sample[name].dtype == pl.Duration or clock_of(sample[name], dates) is not None
        if own is None and part in (HOURS, TIMES) and readable:
            yield Doubt("time", f"{what}: --time-offset {name} adds it.", ("time_offset",))
        elif own is None and part in (HOURS, TIMES):
            yield Doubt("time", f"{what}: write it as 10:30:00, or leave it out by --time {dates}.", ("time_offset",))
        elif own is None and grain == "whole days" and (unit := _UNITS.get(part)) is not None:
            more = f"--time-offset {name} --time-unit {unit} adds it, if that is all since midnight."
            yield Doubt("time", f"{what}: {more}", ("time_offset",))
        else:
            both = (
                f"one column is added to {dates!r}, so make one of it and {own!r}" if own else "make one column of both"
            )
            yield Doubt("time", f"{what}: {both}, as 10:30:00.")


def _zoned(column: pl.Series) -> bool:
    return column.dtype == pl.String and bool(column.str.contains(r"\d\s*(Z|UTC|GMT|[+-]\d\d:?\d\d)$").any())


def _of_zone(column: pl.Series, dates: str) -> Doubt:
    """Return the doubt of a column of zones beside times without an offset."""
    zones = ids_of(column).drop_nulls().unique(maintain_order=True)
    said = f"Column {column.name!r} looks like the time zone of {dates!r}, and is not read"
    if len(zones) == 1 and zones[0] in available_timezones():
        zone = str(zones[0])
        said += f": --time-zone {zone} if its times are by that clock, --time-zone UTC if they are not."
        return Doubt("time", said, ("time_zone",), {"time_zone": zone})
    said += (
        ": --time-zone UTC if the times are in UTC; if they are by the clocks of these zones, write the offset behind "
        "each, as 2024-01-31T10:00:00+02:00."
    )
    return Doubt("time", said, ("time_zone",), {"time_zone": "UTC"})


def _of_finer(times: _Times, dates: str, others: Sequence[str]) -> Iterator[Doubt]:
    """Yield a doubt for each other column of times that are those of the same days, to the second."""
    sample = times.sample
    days = TimeReader(TimeSettings(), sample[dates], "the log").read(sample[dates])[0] // DAY_MS
    for name in others:
        if times.holds(name) != "times" or not times.are_plain(name) or times.grain(name) == "whole days":
            continue
        finer = TimeReader(TimeSettings(), sample[name], "the log").read(sample[name])[0] // DAY_MS
        if int((finer - days).abs().le(1).sum()) * 10 >= 9 * len(sample):
            said = f"Column {dates!r} holds days, and {name!r} the times of these: name the right one by --time."
            yield Doubt("time", said, (), {"time": name})
