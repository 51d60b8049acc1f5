"""Times by a clock: the hour that occurs twice when summer time ends."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from sim.sources.rows.times import RowTimes
from sim.sources.tables.timestamps import TimeReader, TimeSettings

AUTUMN = [datetime(2026, 10, 24, 22, tzinfo=UTC) + timedelta(minutes=5 * n) for n in range(60)]


def ms_of(at: datetime) -> int:
    return int(at.timestamp()) * 1000


def read_by_clock(
    ats: list[datetime], form: str, pieces: int = 1, zone: str = "Europe/Berlin"
) -> tuple[list[int], TimeReader]:
    """Read times as a clock shows them, in several columns one after another."""
    clock = [at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for at in ats]
    column = pl.Series("t", [at.strftime(form) for at in clock] if form else clock)
    reader = TimeReader(TimeSettings(zone=zone), column, "a.csv")
    size = -(-len(column) // pieces)
    parts = [reader.read(column[start : start + size])[0] for start in range(0, len(column), size)]
    return pl.concat(parts).to_list(), reader


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%d.%m.%Y %H:%M", ""])
@pytest.mark.parametrize("pieces", [1, 2, 7, 60])
def test_the_hour_that_occurs_twice_is_read_by_the_order_of_a_log_that_rises(form: str, pieces: int) -> None:
    """In any writing, wherever the batches end; a little disorder does not count, nor do missing times."""
    ats = [*AUTUMN[:30], AUTUMN[32], AUTUMN[30], AUTUMN[31], *AUTUMN[33:]]
    ts_ms, reader = read_by_clock(ats, form, pieces)
    assert ts_ms == [ms_of(at) for at in ats]
    assert (reader.local.repeated, reader.local.second) == (24, 12)


@pytest.mark.parametrize("ats", [AUTUMN * 2, AUTUMN[::-1], AUTUMN[24:48] * 2, AUTUMN[:36]])
def test_in_a_log_that_does_not_rise_the_repeated_hour_is_its_first_pass(ats: list[datetime]) -> None:
    """Sorted by users, falling, or with nothing of the second pass; how many times may be wrong is known."""
    ts_ms, reader = read_by_clock(ats, "%Y-%m-%d %H:%M:%S")
    first = [at - timedelta(hours=AUTUMN[36] <= at < AUTUMN[48]) for at in ats]
    assert ts_ms == [ms_of(at) for at in first]
    repeated = sum(AUTUMN[24] <= at < AUTUMN[48] for at in ats)
    assert (reader.local.repeated, reader.local.second) == (repeated, 0)
    assert reader.local.unordered == (0 if ats == AUTUMN[:36] else repeated)


@pytest.mark.parametrize("late", [[10], [28, 29], [26], [50], [0]])
def test_one_or_two_rows_out_of_order_decide_nothing(late: list[int]) -> None:
    """Before, within and behind the hour; all others are read by their order."""
    moved = [AUTUMN[n] for n in late]
    rest = [at for at in AUTUMN if at not in moved]
    ats = [*rest[: late[0] + 9], *moved, *rest[late[0] + 9 :]]
    ts_ms, reader = read_by_clock(ats, "%Y-%m-%d %H:%M:%S")
    right = [ms == ms_of(at) for ms, at in zip(ts_ms, ats, strict=True)]
    assert all(true for true, at in zip(right, ats, strict=True) if at not in moved)
    assert reader.local.unordered == 0


def test_a_shift_of_half_an_hour_is_one() -> None:
    """As on Lord Howe Island."""
    ats = [datetime(2024, 4, 6, 13, tzinfo=UTC) + timedelta(minutes=5 * n) for n in range(60)]
    ts_ms, reader = read_by_clock(ats, "%Y-%m-%d %H:%M:%S", zone="Australia/Lord_Howe")
    assert ts_ms == [ms_of(at) for at in ats]
    assert (reader.local.repeated, reader.local.second) == (12, 6)


def test_times_with_an_offset_and_in_utc_have_no_repeated_hour() -> None:
    """Nothing is to be said of them."""
    assert read_by_clock(AUTUMN, "", zone="UTC")[1].local.repeated == 0
    texts = pl.Series("t", [at.isoformat() for at in AUTUMN])
    reader = TimeReader(TimeSettings(zone="Europe/Berlin"), texts, "a.csv")
    assert reader.read(texts)[0].to_list() == [ms_of(at) for at in AUTUMN]
    assert reader.local.repeated == 0


def test_a_date_and_a_time_of_the_day_are_read_by_their_order_too() -> None:
    """In two columns; a time with an offset of its own occurs once."""
    clock = [at.astimezone(ZoneInfo("Europe/Berlin")) for at in AUTUMN]
    frame = pl.DataFrame(
        {"date": [date(at.year, at.month, at.day) for at in clock], "time": [f"{at:%H:%M}" for at in clock]}
    )
    times = RowTimes(TimeSettings(zone="Europe/Berlin"), "date", "time", [frame], "a.csv")
    assert times.read(frame)[0].to_list() == [ms_of(at) for at in AUTUMN]
    assert (times.local.repeated, times.local.second) == (24, 12)
