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

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import polars as pl

from sim.errors import SimError
from sim.local_times import LocalTimes
from sim.sources.rows.clocks import (
    CLOCK,
    DAY_MS,
    HHMM,
    HHMMSS,
    HOURS,
    TIMES,
    clock_of,
    ranges_of,
    shift_of,
    without_offsets,
)
from sim.sources.rows.day_order import refuse_two_orders
from sim.sources.tables.cells import Fault, holds_lists, numbers_of
from sim.sources.tables.timestamps import EXCEL_DAYS, SHORT_UNITS, UNITS, TimeReader, TimeSettings
from stream.schema.tokens import LAST_TS_MS

_SCALES: Final = {name: scale for _, name, scale in UNITS} | {
    **{"minutes": 6e4, "hours": 3.6e6, "days": 8.64e7},
    EXCEL_DAYS: 8.64e7,
}
_NEVER_UTC: Final = "Asia/Tokyo"
_WITH_TIME: Final = ("%H", "%I", "%T", "%R", "%X")
_HOUR_MS: Final = 3_600_000
_LITTLE_MS: Final = 100_000


class _Offsets(NamedTuple):
    """What is added to dates, [rows]."""

    ms: pl.Series
    """f64, null where a fault says why."""
    zoned: pl.Series
    """Whether the time of the day has an offset of its own, which `ms` already has."""
    faults: list[Fault]


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
        self._way: str | None = None
        given = settings.unit is not None
        if offset is not None and not self._joined:
            sample = one_column([frame[offset] for frame in frames])
            self._way = clock_of(sample, None) if settings.unit is None else None
            self._refuse_words(sample, owner)
            unit = settings.unit or "milliseconds"
            self._unit = SHORT_UNITS.get(unit, unit)
            settings = replace(settings, unit=EXCEL_DAYS if settings.unit == EXCEL_DAYS else None)
            own = getattr(frames[0][time].dtype, "time_zone", None) if self._way else None
            settings = replace(settings, zone=own or settings.zone)
            self._zone = settings.zone or "UTC"
        times = one_column([self._column(frame) for frame in frames])
        self._reader = TimeReader(settings, times, owner)
        self.read_as = self._reader.read_as
        if offset is not None and self._reader.early and (self._way is not None or given):
            raise SimError(
                f"Column {time!r} of {owner}, to which {offset!r} is added, holds small numbers, which are no dates: "
                "make one column of both, or write dates; --time-unit is the unit of what is added."
            )
        if settings.format is None:
            refuse_two_orders(times, self.read_as.partition(" (")[0], owner)
        self.coarse, self.early = self._reader.coarse, self._reader.early
        self._local: LocalTimes | None = None
        if offset is None or self._joined:
            return
        if settings.zone is not None:
            plain, moved = (TimeReader(replace(settings, zone=zone), times, owner) for zone in (None, _NEVER_UTC))
            if not plain.read(times)[0].equals(moved.read(times)[0]):  # they have no offset of their own
                self._local, self._reader = LocalTimes(settings.zone), plain
        words = "durations" if sample.dtype == pl.Duration else self._way or self._unit
        self.read_as += f", plus {words} in {offset!r}"
        if self._way is None and not given and sample.dtype != pl.Duration:
            most = self._offsets(sample).ms.abs().max()
            self.little = isinstance(most, float) and 0 < most < _LITTLE_MS
            self._refuse_little(times, sample, owner)

    @property
    def local(self) -> LocalTimes:
        """How times without an offset are read."""
        return self._local or self._reader.local

    @property
    def offsets(self) -> Counter[bool]:
        """How many times had an offset of their own, and how many had none."""
        return self._reader.offsets

    def _refuse_little(self, times: pl.Series, sample: pl.Series, owner: str) -> None:
        """Refuse days to which so little is added that it cannot be in milliseconds."""
        days_ms, _ = self._reader.read(times)
        if self.little and (days_ms.drop_nulls() % DAY_MS == 0).all():
            raise SimError(
                f"Column {sample.name!r} of {owner}, with cells such as {sample.drop_nulls()[0]!r}, would as "
                f"milliseconds add less than {_LITTLE_MS // 1000} seconds to the days of {times.name!r}: say by "
                "--time-unit what it is (s, minutes, hours, ms), or write times of the day as 10:30:00."
            )

    def _refuse_words(self, sample: pl.Series, owner: str) -> None:
        """Refuse a second column that is neither times of the day nor numbers."""
        given = sample.drop_nulls()
        if self._way is not None or sample.dtype != pl.String or not len(given):
            return
        values, _ = numbers_of(given)
        if int(values.is_finite().sum()) * 2 < len(given):
            raise SimError(
                f"Column {sample.name!r} of {owner}, which is added to {self._time!r}, holds neither times of the day "
                f"nor numbers, but {given[0]!r}; write it as 10:30:00, or say the format of both by --time-format."
            )

    def _column(self, frame: pl.DataFrame) -> pl.Series:
        column = frame[self._time]
        if self._way is not None:
            return without_offsets(column).plain
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
        day_ms, zoned = ts_ms, added.zoned
        if self._way:
            shift_ms = without_offsets(frame[self._time]).shift_ms.set(zoned, None)
            zoned |= shift_ms.is_not_null()
            day_ms = ts_ms // DAY_MS * DAY_MS - shift_ms.fill_null(0.0).cast(pl.Int64)
        ts_ms = day_ms + added.ms.round().cast(pl.Int64, strict=False)
        faults = [*faults, *added.faults]
        if self._local is not None:
            at = self._local.instants(ts_ms.set(zoned, None).cast(pl.Datetime("ms")))
            here = ts_ms.zip_with(zoned, at.dt.timestamp("ms"))
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
        elif self._way == TIMES:
            ms, plain = _clock_ms(column.cast(pl.String).str.strip_chars())
        elif self._way in (HHMM, HHMMSS):
            ms = _digits_ms(numbers_of(column)[0] * (100 if self._way == HHMM else 1))
        else:
            values, faults = numbers_of(column)
            if self._way:
                beyond = (~values.is_between(0, 23)).fill_null(False)
                faults = [*faults, Fault(beyond, column.name, "is no hour of the day, 0 to 23")]
            return _Offsets(values * _SCALES[HOURS if self._way else self._unit], plain, faults)
        kind = "duration" if column.dtype == pl.Duration else "time of the day"
        wrong = ms.is_null() | ~ms.is_between(0, DAY_MS).fill_null(False) & ~plain if self._way else ms.is_null()
        return _Offsets(ms, plain, [Fault(wrong, column.name, f"is no {kind}")])


def _clock_ms(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the milliseconds since midnight of times of the day, less an offset of their own, and which have one."""
    parts = texts.str.extract_groups(CLOCK).struct.unnest()
    hours, minutes = parts["h"].cast(pl.Int64), parts["m"].cast(pl.Int64)
    half = parts["half"].str.to_lowercase()
    late, wrong = (half == "p").fill_null(False), (half.is_not_null() & ~hours.is_between(1, 12)).fill_null(False)
    hours = (hours % 12).zip_with(half.is_not_null(), hours) + late.cast(pl.Int64) * 12
    seconds = parts["s"].str.replace(",", ".", literal=True).cast(pl.Float64).fill_null(0.0)
    ms = hours * 3.6e6 + minutes * 6e4 + seconds * 1e3
    ms = ms.set(wrong | (ms > DAY_MS).fill_null(False), None)
    zoned = parts["zone"].is_not_null()
    shift_ms = shift_of(parts["zone"])
    wrong = ranges_of(texts) | ~shift_ms.is_between(-12 * _HOUR_MS, 14 * _HOUR_MS).fill_null(True)
    return (ms - shift_ms.fill_null(0.0)).set(wrong, None), zoned


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
