"""Times of a recorded log: a column of any kind becomes event time in int64 milliseconds since 1970 (UTC).

    column holds                          is read as
    integers, floats, texts of them       one unit for the column, by its median (UNITS), or --time-unit
    Excel's days                          days since 1899-12-30 by the clock of --time-zone, with --time-unit excel-days
    8, 10, 12, 14 or 17 digits            dates 20240131, hours 2024013112, times 20240131123000, where most of them are
    ISO-8601 texts, datetimes, dates      that instant; UTC, or --time-zone, if it has no offset
    other texts                           --time-format, or the one of FORMATS that fits most of them

The first rows of a column decide how all are read. Times lie in [1970, 2200), as the workers demand.
"""

import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from sim.errors import SimError
from sim.local_times import LocalTimes
from sim.sources.tables.cells import NO_VALUES, Fault, holds_lists, kind_of, numbers_of
from sim.time_texts import DIGITS, FORMATS, hint, iso_ms, names_zone, parsed, with_offsets
from stream.schema.tokens import LAST_TS_MS

UNITS: Final = (  # (values below, name, milliseconds of one)
    (1e11, "seconds", 1e3),  # 1e11 s lie in the year 5138, 1e11 ms in March 1973
    (1e14, "milliseconds", 1.0),
    (1e17, "microseconds", 1e-3),
    (float("inf"), "nanoseconds", 1e-6),
)
SHORT_UNITS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SCALES: Final = {name: scale for _, name, scale in UNITS} | {"minutes": 6e4, "hours": 3.6e6, "days": 8.64e7}
EXCEL_DAYS: Final = "excel-days"
_EXCEL_1970: Final = 25_569  # 1970-01-01 in Excel's days, whose day 0 is 1899-12-30
_SWAPPED: Final = {
    f"%{first}{sign}%{second}": f"%{second}{sign}%{first}" for sign in "/.-" for first, second in ("md", "dm")
}
_YEAR_LAST: Final = ("%d/%m/%y", "%d.%m.%y")  # which may have the year first where it varies more than the day
_TIME_LIKE: Final = (
    r"(?i)\d[-/.]\d{1,2}[-/.]\d|\d:\d\d|\d[-/ .]?(jan|feb|ma[ry]|apr|ju[nl]|aug|sep|oct|nov|dec)|"
    r"(jan|feb|ma[ry]|apr|ju[nl]|aug|sep|oct|nov|dec)[a-z]*\.? \d"
)
_NO_TIMES: Final = (pl.Boolean, pl.Time, pl.Duration, pl.Binary)
_FEW: Final = 500  # texts that every format is tried on
_UNREADABLE: Final = "is no time that can be read"
_SCIENTIFIC: Final = r"^[+-]?\d(?:\.(\d+))?[eE]\+?(\d+)$"
_ROUNDED: Final = "is a rounded number: times that differ may look alike"
_OLD_MS: Final = 1e11  # March 1973, from which on numbers tell their unit


class AmbiguousTimesError(SimError):
    """A column holds times that may be read in two ways."""


@dataclass(frozen=True, slots=True)
class TimeSettings:
    """How times are read; None leaves it to the column."""

    unit: str | None = None
    format: str | None = None
    zone: str | None = None

    def __post_init__(self) -> None:
        names = (*SHORT_UNITS, *_SCALES, EXCEL_DAYS)
        if self.unit is not None and self.unit not in names:
            raise SimError(f"--time-unit {self.unit} is unknown; known are {', '.join(names)}.")
        if self.unit is not None and self.format is not None:
            raise SimError("--time-unit is for numbers and --time-format for texts; remove one.")
        try:
            ZoneInfo(self.zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError):
            raise SimError(f"--time-zone {self.zone} is unknown; give a name such as Europe/Berlin.") from None

    def refuse_zone_names(self) -> None:
        """Refuse a format with the name of a zone in it, without the zone whose name that is.

        Raises:
            SimError: It has one.
        """
        if self.zone is None and self.format is not None and names_zone(self.format):
            raise SimError(
                f"--time-format {self.format!r} has the abbreviation of a zone, which several may have: say which "
                "zone it is by --time-zone, as America/Los_Angeles for PST and PDT."
            )


class TimeReader:
    """Reads a column of times, batch by batch, in the way that its first rows decide.

    Args:
        settings: What is known about them.
        sample: The first rows.
        owner: The log, for errors.

    Raises:
        SimError: The column holds no times.
        AmbiguousTimesError: They may be read in two ways.
    """

    def __init__(self, settings: TimeSettings, sample: pl.Series, owner: str) -> None:
        self._settings = settings
        self.local = LocalTimes(settings.zone or "UTC")
        skipped = f", or one that summer time in {settings.zone} leaves out" if settings.zone else ""
        self._unreadable = _UNREADABLE + skipped
        self.read_as = ""
        self.early = False
        """Whether times lie before March 1973, as if counted from the log's own start."""
        self.coarse = sample.dtype == pl.Float32
        """Whether they are too coarse to tell times within two minutes apart."""
        self.offsets = Counter[bool]()
        """How many times so far had an offset of their own, and how many had none."""
        self._rounded = False
        if holds_lists(sample) or sample.dtype in _NO_TIMES:
            kind = kind_of(sample.dtype)
            raise SimError(f"Column {sample.name!r} of {owner} holds {kind}, no time; name another by --time.")
        self._read = self._way(sample, owner)

    def _way(self, sample: pl.Series, owner: str) -> Callable[[pl.Series], tuple[pl.Series, list[Fault]]]:
        settings = self._settings
        where = settings.zone or "UTC"
        if sample.dtype.is_temporal():
            self.read_as = f"{kind_of(sample.dtype)} ({getattr(sample.dtype, 'time_zone', None) or where})"
            return self._instants
        if settings.unit == EXCEL_DAYS:
            self.read_as = f"Excel's days ({where})"
            return self._excel
        texts = _given(self._texts(sample.cast(pl.String)))
        if settings.format is not None:
            self.read_as = f"{settings.format} ({where} where no offset is given)"
            return lambda column: self._formatted(column, settings.format or "")
        digits = _of_digits(texts) if settings.unit is None else None
        if digits is not None:
            self.read_as = f"dates as {digits} ({where})"
            return lambda column: self._formatted(column, digits)
        values = texts.cast(pl.Float64, strict=False)
        if values.is_finite().sum() * 2 >= len(texts) and (len(texts) or sample.dtype.is_numeric()):
            return self._of_numbers(sample, values)
        known = (
            None
            if iso_ms(texts, LocalTimes(where)).null_count() * 2 < len(texts)
            else _known_format(texts, owner, sample.name)
        )
        if known is not None:
            self.read_as = f"{known} ({where} where no offset is given)"
            return lambda column: self._in_one_order(column, known, owner)
        self._unreadable += hint(texts, settings.zone)
        self.read_as = f"ISO-8601 ({where} where no offset is given)"
        return self._iso

    def read(self, column: pl.Series) -> tuple[pl.Series, list[Fault]]:
        """Return the milliseconds of a column, null where a fault says why."""
        if column.dtype in _NO_TIMES:
            nothing = pl.repeat(None, len(column), dtype=pl.Int64, eager=True)
            return nothing, [Fault(nothing.is_null(), column.name, _UNREADABLE)]
        if column.dtype.is_temporal() and self._settings.format is None:
            ts_ms, faults = self._instants(column)
        else:
            ts_ms, faults = self._read(column)
        outside = ((ts_ms < 0) | (ts_ms >= LAST_TS_MS)).fill_null(False)
        reason = f"read as {self.read_as}, lies outside the years 1970 to 2199"
        return ts_ms, [*faults, Fault(outside, column.name, reason)]

    def _of_numbers(self, sample: pl.Series, values: pl.Series) -> Callable[[pl.Series], tuple[pl.Series, list[Fault]]]:
        finite = values.filter(values.is_finite()).abs()
        median = float(finite.sort()[(len(finite) - 1) // 2]) if len(finite) else 0.0
        unit = next(name for limit, name, _ in UNITS if median < limit)
        if self._settings.unit is not None:
            unit = SHORT_UNITS.get(self._settings.unit, self._settings.unit)
        self._rounded = _are_rounded(sample, _SCALES[unit])
        fraction = sample.dtype.is_float() or bool((finite != finite.round()).any())
        self.read_as = f"{'float' if fraction else 'integer'} {unit}"
        self.early = median * _SCALES[unit] < _OLD_MS
        low, high = _bounds(unit)
        if low == 0 and median * _SCALES[unit] >= _OLD_MS:
            low = _OLD_MS / _SCALES[unit]  # 0 or a time that was cut off, among others of this century
        return lambda column: self._numbers(column, unit, low, high)

    def _numbers(self, column: pl.Series, unit: str, low: float, high: float) -> tuple[pl.Series, list[Fault]]:
        stripped = column.str.strip_chars() if column.dtype == pl.String else column
        floats = stripped.cast(pl.Float64, strict=False)
        missing = ~floats.is_finite().fill_null(False)
        exact = column.dtype.is_integer() or column.dtype == pl.String
        whole = stripped.cast(pl.Int64, strict=False) if exact else None
        scale = _SCALES[unit]
        ts_ms = (floats * scale).clip(-1e18, 1e18).round().cast(pl.Int64, strict=False)
        if whole is not None:
            in_ms = whole * int(scale) if scale >= 1 else whole // round(1 / scale)
            ts_ms = in_ms.zip_with(whole.is_not_null() & (floats.abs() * scale < 1e18).fill_null(False), ts_ms)
        faults = [Fault(missing, column.name, _UNREADABLE)]
        if self._rounded and column.dtype == pl.String:
            faults.append(Fault(stripped.str.contains(_SCIENTIFIC).fill_null(False), column.name, _ROUNDED))
        if self._settings.unit is None:
            other = ((floats.abs() < low) | (floats.abs() >= high)).fill_null(False) & ~missing
            reason = f"is no time in {unit} as most are, or before March 1973 (--time-unit takes all in one unit)"
            faults.append(Fault(other, column.name, reason))
        return ts_ms, faults

    def _excel(self, column: pl.Series) -> tuple[pl.Series, list[Fault]]:
        days, faults = numbers_of(column)
        ms = ((days - _EXCEL_1970) * 8.64e7).clip(-1e13, 1e13).round().cast(pl.Int64, strict=False)
        ts_ms, more = self._localised(ms.cast(pl.Datetime("ms")), column)
        return ts_ms, [*faults, *more]

    def _instants(self, column: pl.Series) -> tuple[pl.Series, list[Fault]]:
        zone = getattr(column.dtype, "time_zone", None)
        self.offsets[zone is not None] += column.count()
        at = column.cast(pl.Datetime("ms", zone))
        return self._localised(at, column)

    def _formatted(self, column: pl.Series, form: str) -> tuple[pl.Series, list[Fault]]:
        at = parsed(self._texts(column.cast(pl.String)), form.replace("%Z", "%z"))
        return self._localised(at, column)

    def _texts(self, column: pl.Series) -> pl.Series:
        """Return texts without blanks around them, with offsets in place of the abbreviations of --time-zone."""
        texts, zone = column.str.strip_chars(), self._settings.zone
        return texts if zone is None else with_offsets(texts, zone)

    def _in_one_order(self, column: pl.Series, form: str, owner: str) -> tuple[pl.Series, list[Fault]]:
        """Return times in a guessed format; where one has day and month the other way round, no order is sure."""
        ts_ms, faults = self._formatted(column, form)
        _refuse_other_order(column.cast(pl.String).filter(ts_ms.is_null()).drop_nulls(), form, owner)
        return ts_ms, faults

    def _localised(self, at: pl.Series, column: pl.Series) -> tuple[pl.Series, list[Fault]]:
        if getattr(at.dtype, "time_zone", None) is None:
            at = self.local.instants(at)
        ts_ms = at.dt.timestamp("ms")
        return ts_ms, [Fault(ts_ms.is_null(), column.name, self._unreadable)]

    def _iso(self, column: pl.Series) -> tuple[pl.Series, list[Fault]]:
        ts_ms = iso_ms(column.cast(pl.String).str.strip_chars(), self.local, self.offsets)
        return ts_ms, [Fault(ts_ms.is_null(), column.name, self._unreadable)]


def _given(texts: pl.Series) -> pl.Series:
    return texts.filter(texts.is_not_null() & ~texts.str.to_lowercase().is_in(NO_VALUES))


def _bounds(unit: str) -> tuple[float, float]:
    low = 0.0
    for limit, name, _ in UNITS:
        if name == unit:
            return low, limit
        low = limit
    return 0.0, float("inf")


def _are_rounded(column: pl.Series, scale: float) -> bool:
    """Return whether texts are numbers such as 1.7E+09 all of which have too few digits to tell seconds apart."""
    if column.dtype != pl.String:
        return False
    parts = column.str.strip_chars().str.extract_groups(_SCIENTIFIC).struct.unnest()
    digits, power = parts["1"].str.len_chars().fill_null(0).cast(pl.Int64), parts["2"].cast(pl.Int64, strict=False)
    finest = (power - digits).min()
    return isinstance(finest, int) and 10.0 ** min(finest, 300) * scale > 1000


def _of_digits(texts: pl.Series) -> str | None:
    """Return the format of texts most of which are dates or times without signs between: 20240131, 2024013112."""
    for length, form in DIGITS.items():
        digits = texts.filter(texts.str.contains(rf"^(19|20)\d{{{length - 2}}}(\.0)?$"))
        if parsed(digits, form).count() * 2 > len(texts):
            return form
    return None


def _known_format(texts: pl.Series, owner: str, column: str) -> str | None:
    """Return the one of FORMATS that fits most texts, None if none fits more than half of them.

    Raises:
        AmbiguousTimesError: Two fit as many, and mean different times.
    """
    sample = texts.unique(maintain_order=True).head(10_000)
    if int(sample.str.contains(_TIME_LIKE).sum()) * 2 <= len(sample):
        return None
    few = sample.head(_FEW)
    read = {form: _likely(sample, form) for form in FORMATS if _likely(few, form).count()}
    most = max((times.count() for times in read.values()), default=0)
    fitting = [form for form, times in read.items() if times.count() == most]
    if not fitting or parsed(texts, fitting[0]).count() * 2 <= len(texts):
        return None
    _refuse_other_order(sample.filter(read[fitting[0]].is_null()).alias(column), fitting[0], owner)
    days, years = read[fitting[0]].dt.day(), read[fitting[0]].dt.year()
    if fitting[0][:8] in _YEAR_LAST and years.n_unique() > days.n_unique():  # 24/01/05, 24/01/06 ...
        fitting.append("%y{0}%m{0}%d".format(fitting[0][2]) + fitting[0][8:])
        read[fitting[-1]] = _likely(sample, fitting[-1])
    if any(not read[form].equals(read[fitting[0]]) for form in fitting[1:]):
        raise AmbiguousTimesError(
            f"Column {column!r} of {owner} may hold {' or '.join(fitting)}, as in {sample[0]!r}; "
            f"say which: --time {shlex.quote(column)} --time-format '{fitting[0]}'."
        )
    return fitting[0]


def _refuse_other_order(left: pl.Series, form: str, owner: str) -> None:
    """Refuse texts that no format has read, if one has day and month the other way round than the others.

    Raises:
        AmbiguousTimesError: There is one.
    """
    other = _SWAPPED.get(form[:5], "") + form[5:]
    left = left.unique(maintain_order=True) if form[:5] in _SWAPPED else left.clear()
    if len(odd := left.filter(_likely(left.str.strip_chars(), other).is_not_null())):
        raise AmbiguousTimesError(
            f"Column {left.name!r} of {owner} holds {odd[0]!r}, which is {other}, among others that are {form}: no "
            f"order of day and month is sure. Say one for all, by --time {shlex.quote(left.name)} --time-format "
            f"'{form}', or replay the files of each order by themselves."
        )


def _likely(texts: pl.Series, form: str) -> pl.Series:
    """Return the instants of texts in a format, null where they lie in years that no log has, as 0024."""
    at = parsed(texts, form)
    return at.set(~at.dt.year().is_between(1970, 2199).fill_null(False), None)
