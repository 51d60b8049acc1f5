"""Times of a recorded log: a column of any kind becomes event time in int64 milliseconds since 1970 (UTC).

    column holds                          is read as
    integers, floats, texts of them       one unit for the column, by its largest value (UNITS)
    ISO-8601 texts, datetimes, dates      that instant; UTC if it has no offset

The first value of a column of texts decides how it is read. Times lie in [1970, 2200), as the workers demand.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sim.errors import SimError
from stream.schema.tokens import LAST_TS_MS

UNITS: Final = (  # (values below, name, milliseconds of one)
    (1e11, "seconds", 1e3),  # 1e11 s lie in the year 5138, 1e11 ms in March 1973
    (1e14, "milliseconds", 1.0),
    (1e17, "microseconds", 1e-3),
    (float("inf"), "nanoseconds", 1e-6),
)


@dataclass(frozen=True, slots=True)
class Times:
    """A column of times, and a text about how it was read."""

    ts_ms: NDArray[np.int64]  # [rows]
    read_as: str


def event_times(column: pl.Series, owner: str) -> Times:
    """Return the times of a column of the log `owner`.

    Raises:
        SimError: A value is missing, is no time, or lies outside [1970, 2200); the error names the row and the value.
    """
    times = _read(column, owner)
    wrong = np.flatnonzero((times.ts_ms < 0) | (times.ts_ms >= LAST_TS_MS))
    if wrong.size:
        raise _unreadable(column, owner, int(wrong[0]), f"read as {times.read_as}, lies outside the years 1970 to 2199")
    return times


def _read(column: pl.Series, owner: str) -> Times:
    if column.dtype.is_temporal() and column.dtype not in (pl.Time, pl.Duration):
        return _of_instants(column, owner)
    if column.dtype.is_numeric():
        return _of_numbers(column, owner, column if column.dtype.is_integer() else column.cast(pl.Float64))
    if column.dtype != pl.String:
        raise SimError(f"Column {column.name!r} of {owner} holds {column.dtype}, no time; name another by --time.")
    stripped = column.str.strip_chars()
    is_number = stripped.head(1).cast(pl.Float64, strict=False).is_not_null().any()
    return _of_numbers(column, owner, _numbers(stripped)) if is_number else _of_iso(column, owner)


def _of_instants(column: pl.Series, owner: str) -> Times:
    _refuse_missing(column, owner, column.is_null())
    ts_ms = column.cast(pl.Datetime("ms")).cast(pl.Int64)
    return Times(ts_ms.to_numpy().astype(np.int64), f"{column.dtype} (UTC)")


def _numbers(column: pl.Series) -> pl.Series:
    whole = column.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == column.null_count() else column.cast(pl.Float64, strict=False)


def _of_numbers(column: pl.Series, owner: str, values: pl.Series) -> Times:
    """Read `values`, the numbers of the original `column`."""
    readable = values.is_not_null() & values.is_finite() if values.dtype.is_float() else values.is_not_null()
    _refuse_missing(column, owner, ~readable)
    number = values.to_numpy()
    largest = max(abs(float(number.max())), abs(float(number.min()))) if len(number) else 0.0
    unit, scale = next((name, scale) for limit, name, scale in UNITS if largest < limit)
    kind = "float" if values.dtype.is_float() else "integer"
    return Times(_scaled(number, scale), f"{kind} {unit}")


def _scaled(number: NDArray[np.int64] | NDArray[np.float64], scale: float) -> NDArray[np.int64]:
    if number.dtype.kind == "f":
        return np.round(np.clip(number * scale, -1e18, 1e18)).astype(np.int64)
    whole = number.astype(np.int64)
    return whole * int(scale) if scale >= 1 else whole // round(1 / scale)


def _of_iso(column: pl.Series, owner: str) -> Times:
    _refuse_missing(column, owner, column.is_null())
    ts_ms = np.empty(len(column), np.int64)
    for row, text in enumerate(column):
        try:
            ts_ms[row] = _iso_ms(text)
        except ValueError:
            raise _unreadable(column, owner, row) from None
    return Times(ts_ms, "ISO-8601 (UTC where no offset is given)")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _iso_ms(text: str) -> int:
    instant = datetime.fromisoformat(text.strip())
    since = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _refuse_missing(column: pl.Series, owner: str, missing: pl.Series) -> None:
    if missing.any():
        raise _unreadable(column, owner, int(missing.arg_true()[0]))


def _unreadable(column: pl.Series, owner: str, row: int, why: str = "is no time that can be read") -> SimError:
    return SimError(
        f"Row {row + 1} of {owner} (not counting a header) has the time {column[row]!r} in column {column.name!r}, "
        f"which {why}; mend or remove the row. Times are seconds or milliseconds since 1970, or ISO-8601."
    )
