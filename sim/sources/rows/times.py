"""Times of rows: a column of times, or one of dates and another that is added to it.

    the other column holds                is read as
    times, texts as 10:00:00 or 9:30 PM   the time of that day
    durations                             what they are
    numbers, with --time-unit             that unit; excel-days: the column of dates too
    0 to 23, by the name of an hour       the hour of that day
    103000 or 1030, by the name of a time the time of that day
    other numbers                         milliseconds

A time of the day is by the clock of --time-zone, unless it has an offset of its own. A --time-format with hours is that
of both texts, with a blank between.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import polars as pl

from sim.local_times import LocalTimes
from sim.sources.tables.cells import NO_VALUES, Fault, holds_lists, ids_of, numbers_of
from sim.sources.tables.timestamps import EXCEL_DAYS, SHORT_UNITS, UNITS, TimeReader, TimeSettings
from stream.schema.tokens import LAST_TS_MS

DAY_MS: Final = 86_400_000
_SCALES: Final = {name: scale for _, name, scale in UNITS} | {
    **{"minutes": 6e4, "hours": 3.6e6, "days": 8.64e7},
    EXCEL_DAYS: 8.64e7,
}
_CLOCK: Final = (
    r"^(?P<h>\d{1,2}):(?P<m>[0-5]\d)(:(?P<s>[0-5]\d([.,]\d+)?))?\s*(?P<half>[AaPp])?(\.?[Mm]\.?)?\s*"
    r"(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?$"
)
_HOUR_NAMES: Final = r"(hourofday|hour|hr|hh)$"
_CLOCKS: Final = ("timeofday", "eventtime", "time", "clock", "hms", "hhmmss", "hhmm", "hourmin", "tod")
_NEVER_UTC: Final = "Asia/Tokyo"
_WITH_TIME: Final = ("%H", "%I", "%T", "%R", "%X")
_LITTLE_MS: Final = 100_000
HOURS: Final = "hours"
_TIMES, _HHMM, _HHMMSS = "times of the day", "times as HHMM", "times as HHMMSS"


class _Offsets(NamedTuple):
    """What is added to dates, [rows]."""

    ms: pl.Series
    """f64, null where a fault says why."""
    zoned: pl.Series
    """Whether the time of the day has an offset of its own, which `ms` already has."""
    faults: list[Fault]


def clock_of(column: pl.Series) -> str | None:
    """Return what a column holds, if it is a time of the day by its type, its texts, or its name and its numbers."""
    if column.dtype == pl.Time:
        return _TIMES
    if column.dtype in (pl.Boolean, pl.Binary) or column.dtype.is_temporal() or holds_lists(column):
        return None
    texts = ids_of(column.drop_nulls())
    texts = texts.filter(~texts.str.to_lowercase().is_in(NO_VALUES))
    if _most(texts.str.contains(_CLOCK)):
        return _TIMES
    name = _letters(column.name)
    numbers = texts.cast(pl.Int64, strict=False)
    if re.search(_HOUR_NAMES, name) and _most(numbers.is_between(0, 23)):
        return HOURS
    if name not in _CLOCKS:
        return None
    if _most(numbers.is_between(0, 2359) & (numbers % 100 < 60)):
        return _HHMM
    fits = numbers.is_between(0, 235_959) & (numbers % 100 < 60) & (numbers // 100 % 100 < 60)
    return _HHMMSS if _most(fits) else None


def belongs_to(clock: str, dates: str) -> bool:
    """Return whether a column of times of the day is by its name that of a column of dates: time, order_time."""
    stem = re.sub(rf"({'|'.join(_CLOCKS)}|{_HOUR_NAMES[:-1]})$", "", _letters(clock))
    return stem in ("", "event", re.sub(r"(date|day|dt|on)$", "", _letters(dates)))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower().rpartition(".")[2])


def _most(fits: pl.Series) -> bool:
    return len(fits) > 0 and int(fits.sum()) >= 0.95 * len(fits)


class RowTimes:
    """Reads the times of rows in the way that the first rows decide.

    Args:
        settings: What is known about them.
        time: Column of times, or of dates.
        offset: Column that is added to it.
        frames: The first rows.
        owner: The log, for errors.

    Raises:
        SimError: The column holds no times.
    """

    def __init__(
        self, settings: TimeSettings, time: str, offset: str | None, frames: Sequence[pl.DataFrame], owner: str
    ) -> None:
        self._time, self._offset, self._zone = time, offset, settings.zone or "UTC"
        self.little = False
        """Whether all that is added is less than 100 seconds, as if its unit were another."""
        self._joined = offset is not None and any(part in (settings.format or "") for part in _WITH_TIME)
        times = one_column([self._column(frame) for frame in frames])
        if offset is not None and not self._joined:
            sample = one_column([frame[offset] for frame in frames])
            self._way = clock_of(sample) if settings.unit is None else None
            unit = settings.unit or "milliseconds"
            self._unit = SHORT_UNITS.get(unit, unit)
            settings = replace(settings, unit=EXCEL_DAYS if settings.unit == EXCEL_DAYS else None)
        self._reader = TimeReader(settings, times, owner)
        self.read_as = self._reader.read_as
        self.coarse, self.early, self.like_excel = self._reader.coarse, self._reader.early, self._reader.like_excel
        self._local: LocalTimes | None = None
        if offset is None or self._joined:
            return
        if settings.zone is not None:
            plain, moved = (TimeReader(replace(settings, zone=zone), times, owner) for zone in (None, _NEVER_UTC))
            if not plain.read(times)[0].equals(moved.read(times)[0]):  # they have no offset of their own
                self._local, self._reader = LocalTimes(settings.zone), plain
        words = "durations" if sample.dtype == pl.Duration else self._way or self._unit
        self.read_as += f", plus {words} in {offset!r}"
        if self._way is None and settings.unit is None and sample.dtype != pl.Duration:
            most = self._offsets(sample).ms.abs().max()
            self.little = isinstance(most, float) and 0 < most < _LITTLE_MS

    @property
    def local(self) -> LocalTimes:
        """How times without an offset are read."""
        return self._local or self._reader.local

    def _column(self, frame: pl.DataFrame) -> pl.Series:
        column = frame[self._time]
        if not self._joined or self._offset is None:
            return column
        dates = column.cast(pl.String).str.strip_chars()
        dates = dates.str.head(10) if column.dtype.is_temporal() else dates
        return (dates + " " + frame[self._offset].cast(pl.String).str.strip_chars()).alias(column.name)

    def read(self, frame: pl.DataFrame) -> tuple[pl.Series, list[Fault]]:
        """Return the milliseconds of rows, null where a fault says why."""
        ts_ms, faults = self._reader.read(self._column(frame))
        if self._offset is None or self._joined:
            return ts_ms, faults
        added = self._offsets(frame[self._offset])
        day_ms = ts_ms // DAY_MS * DAY_MS if self._way else ts_ms
        ts_ms = day_ms + added.ms.round().cast(pl.Int64, strict=False)
        faults = [*faults, *added.faults]
        if self._local is not None:
            at = self._local.instants(ts_ms.set(added.zoned, None).cast(pl.Datetime("ms")))
            here = ts_ms.zip_with(added.zoned, at.dt.timestamp("ms"))
            skipped = here.is_null() & ts_ms.is_not_null()
            faults.append(Fault(skipped, self._offset, f"is a time that summer time in {self._zone} leaves out"))
            ts_ms = here
        outside = ((ts_ms < 0) | (ts_ms >= LAST_TS_MS)).fill_null(False)
        reason = f"read as {self.read_as}, lies outside the years 1970 to 2199"
        return ts_ms, [*faults, Fault(outside, self._time, reason)]

    def _offsets(self, column: pl.Series) -> _Offsets:
        plain = pl.repeat(False, len(column), dtype=pl.Boolean, eager=True)
        if column.dtype == pl.Time:
            ms = column.cast(pl.Int64) / 1e6
        elif column.dtype == pl.Duration:
            ms = column.dt.total_microseconds() / 1e3
        elif self._way == _TIMES:
            ms, plain = _clock_ms(column.cast(pl.String).str.strip_chars())
        elif self._way in (_HHMM, _HHMMSS):
            ms = _digits_ms(numbers_of(column)[0] * (100 if self._way == _HHMM else 1))
        else:
            values, faults = numbers_of(column)
            return _Offsets(values * _SCALES[HOURS if self._way else self._unit], plain, faults)
        kind = "duration" if column.dtype == pl.Duration else "time of the day"
        wrong = ms.is_null() | ~ms.is_between(0, DAY_MS).fill_null(False) & ~plain if self._way else ms.is_null()
        return _Offsets(ms, plain, [Fault(wrong, column.name, f"is no {kind}")])


def _clock_ms(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the milliseconds since midnight of times of the day, less an offset of their own, and which have one."""
    parts = texts.str.extract_groups(_CLOCK).struct.unnest()
    hours, minutes = parts["h"].cast(pl.Int64), parts["m"].cast(pl.Int64)
    half = parts["half"].str.to_lowercase()
    late, wrong = (half == "p").fill_null(False), (half.is_not_null() & ~hours.is_between(1, 12)).fill_null(False)
    hours = (hours % 12).zip_with(half.is_not_null(), hours) + late.cast(pl.Int64) * 12
    seconds = parts["s"].str.replace(",", ".", literal=True).cast(pl.Float64).fill_null(0.0)
    ms = hours * 3.6e6 + minutes * 6e4 + seconds * 1e3
    ms = ms.set(wrong | (ms > DAY_MS).fill_null(False), None)
    zone = parts["zone"].str.replace(":", "", literal=True)
    shift = zone.str.slice(1, 2).cast(pl.Float64, strict=False) * 3.6e6 + (
        zone.str.slice(3, 2).cast(pl.Float64, strict=False) * 6e4
    )
    signed = shift * zone.str.starts_with("-").cast(pl.Float64) * -2 + shift
    return ms - signed.fill_null(0.0), zone.is_not_null()


def _digits_ms(values: pl.Series) -> pl.Series:
    """Return the milliseconds since midnight of numbers HHMMSS."""
    whole = values.cast(pl.Int64, strict=False)
    fits = (whole // 100 % 100 < 60) & (whole % 100 < 60) & (values == values.round())
    ms = (whole // 10_000 * 3_600 + whole // 100 % 100 * 60 + whole % 100) * 1e3
    return ms.set(~fits.fill_null(False), None)


def one_column(columns: Sequence[pl.Series]) -> pl.Series:
    """Return columns of several files as one; where instants and others are mixed, the others."""
    plain = [column for column in columns if not column.dtype.is_temporal()] or list(columns[:1])
    if any(column.dtype != plain[0].dtype for column in plain):
        if any(holds_lists(column) for column in plain):
            return next(column for column in plain if holds_lists(column))
        plain = [column.cast(pl.String) for column in plain]
    return pl.concat(plain)
