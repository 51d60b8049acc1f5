"""Times of a log: numbers, ISO-8601 texts and datetimes, and what is refused."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, strategies as st

from sim.errors import SimError
from sim.sources.tables.timestamps import AmbiguousTimesError, TimeReader, TimeSettings

instants = st.datetimes(datetime(1974, 1, 1), datetime(2199, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))
columns = st.lists(instants, min_size=1, max_size=20)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))

FORMS = (
    "%Y-%m-%d",
    "%G-W%V-%u",
    "%Y-%m-%dT%H",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M:%S",
    "%Y%m%dT%H%M%S",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%Y-%m-%d %H:%M:%S,%f",
)


def read(column: pl.Series, settings: TimeSettings = TimeSettings()) -> tuple[list[int], str]:  # noqa: B008
    """Return the times of a column without faults, and how they were read."""
    reader = TimeReader(settings, column, "a.csv")
    ts_ms, faults = reader.read(column)
    assert not [fault.reason for fault in faults if fault.wrong.any()]
    assert ts_ms.dtype == pl.Int64
    return ts_ms.to_list(), reader.read_as


def wrong_rows(column: pl.Series) -> dict[str, list[int]]:
    """Return the rows, from 1, that each kind of fault has."""
    _, faults = TimeReader(TimeSettings(), column, "a.csv").read(column)
    return {f.reason: [int(n) + 1 for n in f.wrong.arg_true()] for f in faults if f.wrong.any()}


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("2024-01-31 24:00:00", "2024-02-01 00:00:00"),
        ("2024-01-31T24:00:00.000Z", "2024-02-01T00:00:00Z"),
        ("2024-01-31 24:00", "2024-02-01 00:00"),
        ("2024-01-31T24:00:00 +0100", "2024-02-01T00:00:00+01:00"),
        ("2024-12-31T23:59:60Z", "2025-01-01T00:00:00Z"),
        ("2024-12-31 23:59:60", "2025-01-01 00:00:00"),
        ("01/30/2024 24:00:00", "01/31/2024 00:00:00"),
        ("01/30/2024 23:59:60", "01/31/2024 00:00:00"),
    ],
)
def test_the_end_of_a_day_and_a_leap_second_are_the_next_instant(written: str, same: str) -> None:
    """As ISO-8601 has them; 24:01 is no time."""
    assert read(pl.Series("t", [written, same]))[0][0] == read(pl.Series("t", [same]))[0][0]
    assert wrong_rows(pl.Series("t", [same, same, written.replace("24:00", "24:01").replace(":60", ":61")])) == {
        "is no time that can be read": [3]
    }


def by_hand_ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@given(columns, st.sampled_from(["seconds", "milliseconds", "microseconds", "nanoseconds"]), st.booleans())
def test_integers_are_read_in_the_unit_that_their_size_says(ats: list[datetime], unit: str, as_text: bool) -> None:
    """Numbers and texts of numbers give one time, and the unit is stated."""
    per_second = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}[unit]
    written = [by_hand_ms(at) * per_second // 1000 for at in ats]
    column = pl.Series("t", [str(number) for number in written] if as_text else written)
    ts_ms, read_as = read(column)
    assert ts_ms == [number * 1000 // per_second for number in written]
    assert read_as == f"integer {unit}"


@given(columns, st.booleans())
def test_seconds_with_a_fraction_keep_their_milliseconds(ats: list[datetime], as_text: bool) -> None:
    """Float seconds are rounded to the nearest millisecond, as numbers and as texts."""
    written = [by_hand_ms(at) / 1000 for at in ats] + [1e9 + 1.5]
    column = pl.Series("t", [str(number) for number in written] if as_text else written)
    ts_ms, read_as = read(column)
    assert ts_ms == [by_hand_ms(at) for at in ats] + [1_000_000_001_500]
    assert read_as == "float seconds"


@given(st.lists(st.tuples(instants, zones | st.none()), min_size=1, max_size=20), st.sampled_from("T "))
def test_iso_8601_is_that_instant(ats: list[tuple[datetime, timezone | None]], between: str) -> None:
    """With an offset it counts, without one the time is UTC; a column may mix them."""
    texts = [at.astimezone(zone or UTC).isoformat(between).removesuffix("" if zone else "+00:00") for at, zone in ats]
    ts_ms, _ = read(pl.Series("t", texts))
    assert ts_ms == [by_hand_ms(at) for at, _ in ats]


@given(instants, st.sampled_from(["", "Z", "+02:00", "-0330", "+01:00:30"]), st.sampled_from(FORMS))
def test_every_form_that_python_reads_is_read_alike(at: datetime, offset: str, form: str) -> None:
    """Fractions of any length, basic and week forms, dates alone, Z and offsets; spaces around them do not count."""
    text = at.strftime(form) + (offset if "%H" in form else "")
    at = datetime.fromisoformat(text)
    ts_ms, read_as = read(pl.Series("t", [f" {text} ", "2024-01-01"]))
    assert ts_ms[0] == by_hand_ms(at if at.tzinfo else at.replace(tzinfo=UTC))
    assert read_as == "ISO-8601 (UTC where no offset is given)"


@given(columns, st.sampled_from(["ms", "us", "ns"]), st.sampled_from([None, "UTC", "Asia/Tokyo"]))
def test_datetimes_of_parquet_are_that_instant(ats: list[datetime], unit: str, zone: str | None) -> None:
    """In any unit and zone; without a zone they are UTC."""
    naive = pl.Series("t", [at.replace(tzinfo=None) for at in ats], dtype=pl.Datetime(unit))
    column = naive.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else naive
    assert read(column)[0] == [by_hand_ms(at) for at in ats]


def test_dates_are_their_midnight() -> None:
    """In UTC."""
    assert read(pl.Series("t", [date(1970, 1, 3)]))[0] == [2 * 86_400_000]


@given(st.lists(st.just("1260759144"), min_size=2, max_size=5), st.sampled_from(["", "yesterday", "nan", "1,5", None]))
def test_an_unreadable_time_is_named_by_its_row(before: list[str], wrong: str | None) -> None:
    """Among numbers; the others are read."""
    assert wrong_rows(pl.Series("when", [*before, wrong])) == {"is no time that can be read": [len(before) + 1]}


@pytest.mark.parametrize("wrong", ["soon", "2024-13-01", "2024-01-01T25:00", None])
def test_an_unreadable_text_in_a_column_of_iso_8601_is_named_by_its_row(wrong: str | None) -> None:
    """As for numbers."""
    assert wrong_rows(pl.Series("when", ["2024-01-01", wrong])) == {"is no time that can be read": [2]}


@pytest.mark.parametrize(
    ("values", "row"),
    [([5, -1], 2), (["2199-12-31", "2200-01-01"], 2), ([1.0, float("inf")], 2), ([1e300], 1), (["1969-12-31"], 1)],
)
def test_a_time_that_workers_would_refuse_is_refused_here(values: list[object], row: int) -> None:
    """Times lie in [1970, 2200)."""
    assert [row] in wrong_rows(pl.Series("when", values)).values()


def test_a_column_that_holds_no_times_is_refused() -> None:
    """The sentence names the column, its type and the flag."""
    with pytest.raises(SimError, match=r"Column 'when' of a.csv holds booleans, no time; name another by --time"):
        read(pl.Series("when", [True]))


@pytest.mark.parametrize("column", [[44000.4375, 44000.0], ["44000.4375", "44000"], [" 44000,4375", "44000,0"]])
def test_days_of_excel_are_times_by_its_clock(column: list[object]) -> None:
    """Half past ten of 2020-06-18, in Berlin's summer two hours earlier; with a decimal comma too."""
    days = pl.Series("t", column)
    assert read(days, TimeSettings("excel-days"))[0] == [1_592_476_200_000, 1_592_438_400_000]
    times, read_as = read(days, TimeSettings("excel-days", zone="Europe/Berlin"))
    assert (times[0], read_as) == (1_592_469_000_000, "Excel's days (Europe/Berlin)")
    assert not TimeReader(TimeSettings("excel-days"), days, "a.csv").early


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("2024013110", "2024-01-31 10:00"),
        ("202401311005", "2024-01-31 10:05"),
        ("20240131100530", "2024-01-31 10:05:30"),
        ("20240131100530123", "2024-01-31 10:05:30.123"),
        ("1/31/24 10:00", "2024-01-31 10:00"),
        ("1/31/24 10:00 PM", "2024-01-31 22:00"),
        ("01/31/2024 10:00 PM", "2024-01-31 22:00"),
        ("1/31/2024 10:00:00.123", "2024-01-31 10:00:00.123"),
        ("01/31/2024 10:00:05 UTC", "2024-01-31 10:00:05"),
        ("31.01.24 10:00", "2024-01-31 10:00"),
        ("2024.01.31 10:00", "2024-01-31 10:00"),
        ("2024-01-31 10:00:00 PM", "2024-01-31 22:00"),
        ("01-31-2024 10:00", "2024-01-31 10:00"),
        ("31-01-2024 10:00", "2024-01-31 10:00"),
        ("31-Jan-2024 10:00:00", "2024-01-31 10:00"),
        ("31-JAN-24", "2024-01-31"),
        ("31-JAN-24 10.00.30.250000 PM", "2024-01-31 22:00:30.250"),
        ("31 January 2024", "2024-01-31"),
        ("January 31, 2024", "2024-01-31"),
        ("Jan 31, 2024 10:00:00 PM", "2024-01-31 22:00"),
        ("Wed Jan 31 10:00:00 UTC 2024", "2024-01-31 10:00"),
        ("Wed, 31 Jan 2024 10:00:00 GMT", "2024-01-31 10:00"),
        ("[31/Jan/2024:10:00:00 +0100]", "2024-01-31 09:00"),
        ("2024-01-31-10.00.00.000000", "2024-01-31 10:00"),
    ],
)
def test_times_as_programs_write_them(written: str, iso: str) -> None:
    """Whole hours and minutes in digits, months by name, halves of a day, US dates whose day decides."""
    assert read(pl.Series("t", [written]))[0] == read(pl.Series("t", [iso]))[0]
    if written.isdigit():
        assert read(pl.Series("t", [int(written)]))[0] == read(pl.Series("t", [iso]))[0]


def test_an_offset_in_a_text_counts_beside_a_zone() -> None:
    """UTC in a text is UTC, whatever --time-zone says of times without."""
    written = pl.Series("t", ["Wed Jan 31 10:00:00 UTC 2024"])
    assert read(written, TimeSettings(zone="Asia/Tokyo"))[0] == read(pl.Series("t", ["2024-01-31 10:00"]))[0]
    written, form = pl.Series("t", ["2024/01/31T10:00:00Z", "2024/01/31T11:00:00+01:00"]), "%Y/%m/%dT%H:%M:%S%z"
    assert read(written, TimeSettings(format=form, zone="Asia/Tokyo"))[0] == [1_706_695_200_000] * 2


@pytest.mark.parametrize("written", ["01-02-2024", "1/2/24 10:00", "03/04/2020"])
def test_a_day_that_may_be_a_month_is_asked_for(written: str) -> None:
    """Another row's day decides for all."""
    with pytest.raises(AmbiguousTimesError, match=r"may hold %m.%d.%\w( %H:%M)? or %d.%m.%\w.*--time t --time-format"):
        read(pl.Series("t", [written]))
    decided = pl.Series("t", [written, re.sub(r"^\d+", "28", written)])
    assert read(decided)[1].startswith("%d")


@pytest.mark.parametrize("us", ["05/{0}/2024", "05-{0}-2024 10:00:00", "05/{0}/24 10:00"])
@pytest.mark.parametrize("mixed", [False, True])
def test_months_and_days_have_one_order(us: str, *, mixed: bool) -> None:
    """In all files of a log: where one row is the other way round, those that are either are sure of neither."""
    first = [us.format(day) for day in range(11, 29)]
    other = ["28" + us[2:].format("05")]
    reader = TimeReader(TimeSettings(), pl.Series("t", first), "a.csv")
    with pytest.raises(
        AmbiguousTimesError, match=r"'t' of a.csv holds '28.05.*, which is %d.%m.*: no order .* is sure"
    ):
        TimeReader(TimeSettings(), pl.Series("t", first + other), "a.csv") if mixed else reader.read(
            pl.Series("t", other)
        )
    said = TimeReader(TimeSettings(format=reader.read_as.partition(" (")[0]), pl.Series("t", first), "a.csv")
    assert said.read(pl.Series("t", first + other))[1][0].wrong.arg_true().to_list() == [18]


@pytest.mark.parametrize("sign", ["/", "."])
def test_a_year_of_two_digits_may_come_first(sign: str) -> None:
    """Where what would be the year varies more than what would be the day."""
    year_first = pl.Series("t", [f"24/01/{day:02}".replace("/", sign) for day in range(5, 25)])
    with pytest.raises(AmbiguousTimesError, match=rf"may hold %d{sign}%m{sign}%y or %y{sign}%m{sign}%d"):
        read(year_first)
    day_first = pl.Series("t", [f"{day:02}/01/24".replace("/", sign) for day in range(5, 25)])
    assert read(day_first)[1].startswith(f"%d{sign}%m{sign}%y")


def test_a_format_of_hours_alone_can_be_said() -> None:
    """Which polars would refuse."""
    assert read(pl.Series("t", ["31.01.2024 7h"]), TimeSettings(format="%d.%m.%Y %Hh"))[0] == [1_706_684_400_000]


@pytest.mark.parametrize(("scale", "unit"), [(3, 1), (6, 1), (0, 1000)])
def test_decimals_keep_their_fraction(scale: int, unit: int) -> None:
    """As databases write times into Parquet; two of one second are not one instant."""
    written = [Decimal("1700000000.123") * unit, Decimal("1700000000.9") * unit]
    column = pl.Series("t", written, dtype=pl.Decimal(30, scale))
    assert read(column)[0] == [1_700_000_000_123, 1_700_000_000_900]


def test_rounded_numbers_are_no_times() -> None:
    """A spreadsheet's 1.7E+09 stands for many instants; the same form with all its digits for one."""
    rounded = {"is a rounded number: times that differ may look alike": [1, 2]}
    assert wrong_rows(pl.Series("t", ["1.7E+09", "1.70000001E+09"])) == rounded
    assert wrong_rows(pl.Series("t", ["1.7E+12", "1.70000001E+12", "1700000000123"])) == rounded
    assert read(pl.Series("t", ["1.7E9", "1.700000001E9"]))[0] == [1_700_000_000_000, 1_700_000_001_000]


def test_times_with_and_without_an_offset_are_told_apart() -> None:
    """In texts of any form, and where files differ in their types; plain dates have none."""
    with_one = ["2024-05-01T10:00:00Z", "2024-05-01 10:00 UTC", "2024-05-01T10:00+02", "2024-05-01-05:00"]
    without = ["2024-05-01 10:00:00", "2024-05-01", "2024-05-01T10:00", "2024-05-01 24:00"]
    reader = TimeReader(TimeSettings(), texts := pl.Series("t", with_one + without), "a.csv")
    assert not reader.read(texts)[1][0].wrong.any()
    assert reader.offsets == {True: 4, False: 4}
    typed = pl.Series("t", [datetime(2024, 5, 1)])
    reader.read(typed)
    reader.read(typed.dt.replace_time_zone("UTC"))
    assert reader.offsets == {True: 5, False: 5}


def test_what_is_no_number_of_days_is_a_fault() -> None:
    """Of Excel's days, which are numbers by the clock of a zone."""
    odd = pl.Series("t", ["44000", "today", "1e300", "-1", None])
    _, faults = TimeReader(TimeSettings("excel-days", zone="Europe/Berlin"), odd, "a.csv").read(odd)
    wrong = [any(fault.wrong[row] for fault in faults) for row in range(len(odd))]
    assert wrong == [False, True, True, True, True]
