"""Times of two columns: a date, and what is added to it."""

from datetime import date, time, timedelta
from typing import Any

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.rows.times import RowTimes
from sim.sources.tables.timestamps import TimeSettings

DAY = 1_706_659_200  # 2024-01-31


def read(dates: Any, offsets: Any, name: str = "o", **settings: Any) -> tuple[list[int | None], set[str], RowTimes]:
    """Return the seconds of rows, what is wrong with some, and the reader."""
    frame = pl.DataFrame({"d": dates, name: offsets})
    times = RowTimes(TimeSettings(**settings), "d", name, [frame], "the log")
    ts, faults = times.read(frame)
    return [ms if ms is None else ms / 1000 for ms in ts], {f.reason for f in faults if f.wrong.any()}, times


@pytest.mark.parametrize(
    ("offset", "seconds", "name", "unit"),
    [
        (time(10, 0, 1), 36_001, "o", None),
        (timedelta(hours=3), 10_800, "o", None),
        ("10:00:01.500", 36_001.5, "o", None),
        ("9:30 PM", 77_400, "o", None),
        ("12:05 a.m.", 300, "o", None),
        ("24:00:00", 86_400, "o", None),
        ("10:00:00Z", 36_000, "o", None),
        ("10:00:00+01:00", 32_400, "o", None),
        (13, 46_800, "hour", None),
        ("13", 46_800, "event_hour", None),
        (130_013, 130.013, "o", None),
        (13, 0.013, "o", "ms"),
        (13, 46_800, "o", "hours"),
        (13, 13, "o", "seconds"),
        (13, 13, "o", "s"),
        (13, 780, "o", "minutes"),
        (1, 86_400, "o", "days"),
        (103_001, 37_801, "time", None),
        ("0930", 34_200, "hhmm", None),
        (526_309, 526.309, "timeframe", None),
        (103_001, 37_801, "order_time", None),
        ("1030", 37_800, "TransTime", None),
        (163_100.0, 59_460, "TRANS_TIME", None),
    ],
)
@pytest.mark.parametrize("day", ["2024-01-31", "31.01.2024", 20240131, date(2024, 1, 31)])
def test_what_a_second_column_adds(offset: object, seconds: float, name: str, unit: str | None, day: object) -> None:
    """By its type, its texts, its name, or the unit that is said, to a date in any writing."""
    found, wrong, _ = read([day], [offset], name, unit=unit)
    assert found == [DAY + seconds]
    assert not wrong


def test_a_sum_beyond_the_calendar_is_refused() -> None:
    """As a single time is."""
    _, wrong, _ = read(["2024-01-31", "2024-01-31"], [1, 10**9], unit="hours")
    assert any("lies outside the years 1970 to 2199" in reason for reason in wrong)


@pytest.mark.parametrize("offset", ["25:00:00", "13:30 PM", None, "", "noon"])
def test_what_is_no_time_of_the_day_is_a_bad_row(offset: str | None) -> None:
    """Among others that are."""
    found, wrong, _ = read(["2024-01-31"] * 30, ["10:00:00"] * 29 + [offset])
    assert found[:29] == [DAY + 36_000] * 29
    assert wrong == {"is no time of the day"}


def test_a_time_of_the_day_is_by_the_clock_of_its_zone() -> None:
    """On a day on which summer time begins as well; what it leaves out is no time."""
    days = ["2024-01-31", "2024-03-31", "2024-03-31", "2024-07-01"]
    found, wrong, times = read(days, ["10:00", "10:00", "02:30", "10:00"], zone="Europe/Berlin")
    assert found == [DAY + 32_400, 1_711_872_000, None, 1_719_820_800]
    assert wrong == {"is a time that summer time in Europe/Berlin leaves out"}
    assert times.read_as == "ISO-8601 (Europe/Berlin where no offset is given), plus times of the day in 'o'"


def test_a_zone_that_is_utc_in_winter_is_none_in_summer() -> None:
    """The first rows, all of a winter, do not decide how later ones are read."""
    first = pl.DataFrame({"d": ["2024-01-31"], "o": ["10:00"]})
    times = RowTimes(TimeSettings(zone="Europe/London"), "d", "o", [first], "the log")
    later = pl.DataFrame({"d": ["2024-01-31", "2024-07-01"], "o": ["10:00", "10:00"]})
    assert times.read(later)[0].to_list() == [1_706_695_200_000, 1_719_824_400_000]


def test_a_format_with_hours_is_that_of_both() -> None:
    """A blank between them; one without is that of the dates."""
    assert read(["Jan 31 24"], ["10h05"], format="%b %d %y %Hh%M")[0] == [DAY + 36_300]
    assert read(["Jan 31 24"], ["10:05"], format="%b %d %y")[0] == [DAY + 36_300]


def test_milliseconds_that_hardly_count_are_refused() -> None:
    """Beside days they are something else; beside times they may be a part of these, and it is said."""
    with pytest.raises(SimError, match="add less than 100 seconds to the days of 'd': say by --time-unit what it is"):
        read(["2024-01-31"] * 2, [9, 1300])
    with pytest.raises(SimError, match="with cells such as 9, would as milliseconds"):
        read(["2024-01-31"] * 2, [9, 13], "order_time")  # hours, or minutes
    assert read(["2024-01-31 10:00:01"] * 2, [9, 130])[2].little
    assert not read(["2024-01-31"] * 2, [9, 1_300_000])[2].little
    assert not read(["2024-01-31"] * 2, [9, 1300], unit="s")[2].little


@pytest.mark.parametrize(("name", "unit"), [("TRANS_TIME", None), ("o", "days"), ("o", "s")])
def test_nothing_is_added_to_small_numbers(name: str, unit: str | None) -> None:
    """Of a day since a log's start no one says whether it is one, and --time-unit is that of what is added."""
    with pytest.raises(
        SimError, match=r"'d' of the log, to which '.*' is added, holds small numbers, which are no date"
    ):
        read([1, 2, 700], [1631, 942, 1204], name, unit=unit)
