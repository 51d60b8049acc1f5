"""Flags that were given, and the roles of columns that none names."""

import shlex
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.open_log import open_log
from tests.sim.sources.logs import START_S as T, log_of, triples

EXPOSURES = "uid,video_id,request_id,time_ms,is_click\n" + "".join(
    f"{user},{item},r{request},{(T + 600 * request) * 1000},{int(item == 'b')}\n"
    for request, user in enumerate("7878")
    for item in "abc"
)


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"user": "uid"},
        {"item": "video_id"},
        {"time": "time_ms"},
        {"user": "uid", "item": "video_id", "time": "time_ms"},
        {"user": "uid", "action": "is_click"},
        {"user": "uid", "request": "request_id"},
    ],
)
def test_exposures_are_slates_whichever_roles_are_named(tmp_path: Path, flags: dict[str, Any]) -> None:
    """Four slates of three with a click each; never twelve clicks; and what was guessed is said."""
    log = log_of(tmp_path / "expo.csv", EXPOSURES, **flags)
    assert (log.summary.slates, log.summary.shown) == (4, 12)
    assert log.summary.actions == {"click": 4}
    said = log.remarks[0]
    named = {"user", "item", "time", "action", "request"} - set(flags)
    assert all(f"--{role} " in said for role in named)


def test_named_columns_without_others_that_are_sure_are_read_alone(tmp_path: Path) -> None:
    """As in the README: every row is a click, and nothing is said."""
    log = log_of(tmp_path / "log.csv", f"who,what,t,note\n1,a,{T},x\n", user="who", item="what", time="t")
    assert triples(log) == [("1", "a", T)]
    assert not log.remarks


def test_a_column_has_one_role(tmp_path: Path) -> None:
    """One that is named as the item is no action, and a rating is not read beside an action."""
    content = f"user,label,rating,ts\n1,a,5,{T}\n1,b,4,{T + 1}\n"
    log = log_of(tmp_path / "log.csv", content, item="label")
    assert [user for user, *_ in triples(log)] == ["1", "1"]
    assert log.summary.actions == {"rate": 2}
    content = f"user,item,event,rating,ts\n1,a,buy,5,{T}\n"
    assert log_of(tmp_path / "log.csv", content, user="user").summary.actions == {"buy": 1}


@pytest.mark.parametrize("flags", [{}, {"user": "user"}])
@pytest.mark.parametrize("actions", ["", "event,"])
def test_flags_of_ratings_mean_the_column_that_is_sure(tmp_path: Path, flags: dict[str, str], actions: str) -> None:
    """Without --rating, and beside a column of actions."""
    content = f"user,item,{actions}rating,ts\n" + "".join(
        f"1,{item},{actions and 'buy,'}{rating},{T + rating}\n" for rating, item in enumerate("abcde", 1)
    )
    log = log_of(tmp_path / "log.csv", content, positive_from=4, **flags)
    assert log.summary.actions == {"dislike": 3, "like": 2}


@pytest.mark.parametrize(
    ("name", "action", "rows"),
    [
        ("request_id", "is_click", [("r1", 0, 0), ("r2", 0, 1)]),  # each row its own
        ("session_part", "is_click", [("r1", 0, 0), ("r1", 0, 1)]),  # no such name
        ("request_id", "is_click", [("r1", 0, 0), ("r1", 90_000, 1)]),  # a day apart
        ("request_id", "event", [("r1", 0, "view"), ("r1", 0, "buy")]),  # nothing was only shown
    ],
)
def test_what_groups_no_shown_rows_is_no_request(
    tmp_path: Path, name: str, action: str, rows: list[tuple[str, int, Any]]
) -> None:
    """Whatever its name."""
    content = f"user_id,item_id,ts,{name},{action}\n"
    content += "".join(f"u,i{n},{T + after},{request},{what}\n" for n, (request, after, what) in enumerate(rows))
    (tmp_path / "log.csv").write_text(content)
    assert "--request" not in " ".join(open_log([str(tmp_path / "log.csv")], {}).remarks)


@pytest.mark.parametrize("flags", [{}, {"user": "user"}])
def test_ratings_that_are_no_numbers_are_not_left_out_in_silence(tmp_path: Path, flags: dict[str, str]) -> None:
    """Unless the rows are something else than clicks anyway."""
    content = f"user,item,rating,event,ts\na,b,4 stars,buy,{T}\na,c,5 stars,buy,{T + 1}\n"
    other, said = content.replace("event", "note"), "Column 'rating' is not read, so that every row is a click"
    if not flags:
        with pytest.raises(SimError, match=said):
            log_of(tmp_path / "log.csv", other)
    log = log_of(tmp_path / "log.csv", other, user="user")
    assert log.summary.actions == {"click": 2}
    assert said in log.remarks[0]
    log = log_of(tmp_path / "log.csv", content, **flags)
    assert log.summary.actions == {"buy": 2}
    assert "is not read" not in log.remarks[0]


def test_a_date_of_two_meanings_is_the_time_where_no_other_is(tmp_path: Path) -> None:
    """A replay asks for its format, and is content with that; a column of plain times is preferred."""
    content = f"user,item,date,when\na,b,03/04/2020 10:00:00,{T}\n"
    with pytest.raises(SimError, match=r"Column 'date' of .* say which: --time date --time-format '%m/%d"):
        log_of(tmp_path / "log.csv", content.replace("when", "note").replace(str(T), "x"))
    log = log_of(tmp_path / "log.csv", content.replace("when", "note"), time_format="%d/%m/%Y %H:%M:%S")
    assert triples(log) == [("a", "b", 1_585_908_000)]
    assert triples(log_of(tmp_path / "log.csv", content)) == [("a", "b", T)]


def test_times_of_the_day_are_read_or_named(tmp_path: Path) -> None:
    """Beside dates, also where flags name those; partitions of days and hours too."""
    content = "user_id,item_id,date,time\na,b,2024-01-31,10:00:00\n"
    for flags in ({}, {"time": "date"}, {"user": "user_id"}):
        log = log_of(tmp_path / "log.csv", content, **flags)
        assert triples(log) == [("a", "b", 1_706_695_200)]
        assert "--time-offset time" in log.remarks[0]
    content = content.replace(",time", ",opens")
    with pytest.raises(
        SimError, match=r"Column 'opens', .* looks like times of the day of 'date'.*--time-offset opens"
    ):
        log_of(tmp_path / "log.csv", content)
    log = log_of(tmp_path / "log.csv", content, time="date")
    assert triples(log) == [("a", "b", 1_706_659_200)]
    assert "Column 'opens', with cells such as '10:00:00', looks like times of the day" in log.remarks[0]
    folder = tmp_path / "log" / "dt=2024-01-31" / "hour=10"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("user_id,item_id\na,b\n")
    assert triples(open_log([str(tmp_path / "log")], {})) == [("a", "b", 1_706_695_200)]


def test_lists_that_may_be_slates_are_named(tmp_path: Path) -> None:
    """Where they are not read."""
    content = f'{{"user_id": "u", "item_id": "a", "ts": {T}, "items_inview": ["a", "b"], "tags": ["x"]}}\n'
    said = "The lists items_inview are not read: --shown names"
    with pytest.raises(SimError, match=said):
        log_of(tmp_path / "log.jsonl", content)
    assert said in log_of(tmp_path / "log.jsonl", content, user="user_id").remarks[0]
    assert "are not read" not in "".join(log_of(tmp_path / "log.jsonl", content, shown="items_inview").remarks)


def test_the_log_of_one_user_keeps_its_actions(tmp_path: Path) -> None:
    """Whose id is no sure sign of users, but has the usual name; never is every row a click in silence."""
    rows = "".join(f"u,i{n},{T + n},view\n" for n in range(30))
    log = log_of(tmp_path / "log.csv", "user_id,item_id,ts,event\n" + rows)
    assert log.summary.actions == {"view": 30}
    assert log.remarks[0] == "Other columns by their names: --action event."
    with pytest.raises(SimError, match="has no column 'user_id'"):
        log_of(tmp_path / "log.csv", "shop_user,item_id,ts,event\n" + rows)


HEAD = "user_id,item_id,"
DATES = [f"2024-05-{day:02}" for day in range(1, 21)]


def rows_of(head: str, *cells: str) -> str:
    """Return a log of 20 days, each cell with the day for {0}, its number for {1}."""
    rows = (",".join(cells).format(date, n, n % 12 + 1) for n, date in enumerate(DATES))
    return f"{HEAD}{head}\n" + "".join(f"u{n},i{n},{row}\n" for n, row in enumerate(rows))


@pytest.mark.parametrize(
    ("head", "cells", "said"),
    [
        ("date,time", ("{0}", "morning"), "'time', with cells such as 'morning', .* write it as 10:30:00"),
        ("date,time", ("{0}", "10:00-11:00"), "'time', with cells such as '10:00-11:00'"),
        (
            "date,seconds",
            ("{0}", "7{1:02}00"),
            "--time-offset seconds --time-unit s adds it, if that is all since midnight",
        ),
        ("date,ms", ("{0}", "7{1:02}00000"), "--time-offset ms --time-unit ms adds it"),
        ("ts,second", ("{0} 10:{1:02}", "{1}"), "'second', .* looks like seconds of 'ts', .* make one column of both"),
        ("date,start", ("{0}", "10 Uhr"), "'start', with cells such as '10 Uhr'"),
        ("date,hour,minute", ("{0}", "{1}", "{1}"), "'minute', .* make one of it and 'hour'"),
        ("date,hour,min", ("{0}", "{1}", "{1}"), "'min', .* make one of it and 'hour'"),
        ("date,time,ampm", ("{0}", "{2}:30", "PM"), "'ampm', .* make one of it and 'time'"),
        ("timestamp,AM/PM", ("{0} {2:02}:30:00", "PM"), "'AM/PM', .* looks like halves of the day of 'timestamp'"),
        ("date,time,timezone", ("{0}", "{2}:30", "Europe/Paris"), "--time-zone Europe/Paris if its .* Europe/Paris$"),
        ("ts,tz", ("{0} {2:02}:30:00", "CEST"), "'tz' .* write the offset behind each.*--time-zone UTC$"),
        ("date,time,zone", ("{0}", "{2}:30", "+02:00"), "'zone' looks like the time zone of 'date'"),
        (
            "seen,updated",
            ("{0} 10:00", "{0} 11:00"),
            "Columns 'seen' and 'updated' hold times: .* --time seen --user user_id .*--time updated",
        ),
        (
            "ts,user_id",
            ("{0} 10:00", "{1}"),
            "'user_id' may be the user, and 'user_id_2' as well, which holds other values",
        ),
        ("ts,tz", ("{0} {2:02}:30:00", "UTC+2"), "'tz' .* write the offset behind each"),
        ("ts,utc_offset", ("{0} {2:02}:30:00", "+02:00"), "'utc_offset' .* write the offset behind each"),
        (
            "time,created",
            ("{1}0", "{0} 10:00:00"),
            "'time', read as times, lies in 1970, and 'created' in 2024.*created",
        ),
        (
            "time,visit,visitStartTime",
            ("{1}456.5", "17145{1:02}601", "17145{1:02}601"),
            "'time', read as times, lies in 1970, and 'visit' in 2024.*--time visitStartTime",
        ),
        (
            "time_stamp",
            ("08{2:02}",),
            "'time_stamp', with cells such as '0801', looks like months and days without a y",
        ),
        ("ts,seen", ("1714521601", "{0} 10:00:00"), "Column 'ts' holds one time in all rows, and 'seen' .*--time seen"),
        (
            "date,time",
            ("450{1:02}", "0.5"),
            "Columns 'time' and 'date' hold small numbers: say by --time and --time-un",
        ),
        ("date,seen", ("{0}", "{0} 10:00:00"), "Column 'date' holds days, and 'seen' the times of these.*--time seen"),
    ],
)
def test_a_part_of_a_time_that_is_not_read_makes_it_doubtful(
    tmp_path: Path, head: str, cells: tuple[str, ...], said: str
) -> None:
    """It is named, with the line to run; that line is not refused for it again."""
    content = rows_of(head, *cells)
    with pytest.raises(SimError, match=said) as refused:
        log_of(tmp_path / "log.csv", content)
    words = shlex.split(str(refused.value).rpartition("hstu replay")[2])
    names = [flag.removeprefix("--").replace("-", "_") for flag in words[1::2]]
    assert log_of(tmp_path / "log.csv", content, **dict(zip(names, words[2::2], strict=True))).summary.rows == 20


@pytest.mark.parametrize("flags", [{"item": "item_id"}, {"time": "date"}, {"action": "x"}, {"user": "user_id"}])
def test_the_line_decides_what_flags_leave_open(tmp_path: Path, flags: dict[str, str]) -> None:
    """Also where some columns are named already, by their usual names."""
    content = rows_of("date,ampm,x,rating", "{0}", "AM", "buy", "many")
    try:
        log = log_of(tmp_path / "log.csv", content, **flags)
    except SimError as refused:
        words = shlex.split(str(refused).rpartition("hstu replay")[2])
        names = [flag.removeprefix("--").replace("-", "_") for flag in words[1::2]]
        log = log_of(tmp_path / "log.csv", content, **dict(zip(names, words[2::2], strict=True)))
    assert log.summary.rows == 20


def test_a_flag_that_decides_leaves_the_rest_sure(tmp_path: Path) -> None:
    """Nothing more is proposed, or said to be unsure."""
    content = rows_of("ts,tz,anonymous_id", "{0} {2:02}:30:00", "CET", "x").replace("\nu3,", "\n,")
    log = log_of(tmp_path / "log.csv", content, time_zone="UTC", skip_bad="1")
    assert log.remarks[0] == "Columns by their names: --time ts --user user_id --item item_id."
    assert log.summary.bad == {"user_id is no id": 1}


@pytest.mark.parametrize(
    ("head", "cells"),
    [
        ("ts,tz", ("{0} {2:02}:30:00", "UTC")),
        ("ts,tz", ("{0}T{2:02}:30:00Z", "CET")),
        ("ts,user-id", ("{0} 10:00", "u{1}")),
        ("ts,tz", ("17000000{1:02}", "CET")),
        ("date,time,hour", ("{0}", "{2}:30", "{2}")),
        ("date,watch_time", ("{0}", "{1}")),
        ("date,variant", ("{0}", "{2}:345")),
        ("date,hours", ("{0}", "{1}.5")),
        ("date,seconds", ("{0}", "{1}00")),
        ("ts,days_since_prior_order", ("{0} 10:00", "{1}")),
        ("date,offset", ("{0}", "{1}")),
        ("date,zone", ("{0}", "north")),
        ("date,time,tz", ("{0}", "{2}:30:00+02:00", "CEST")),
        ("time,born", ("17000000{1:02}", "1980-01-31")),
    ],
)
def test_other_columns_leave_a_time_sure(tmp_path: Path, head: str, cells: tuple[str, ...]) -> None:
    """Zones of what is in UTC or has offsets, hours beside times, how long and how much."""
    assert log_of(tmp_path / "log.csv", rows_of(head, *cells)).summary.rows == 20


@pytest.mark.parametrize(
    ("head", "cells", "first"),
    [
        ("date,time", ("{0}+02:00", "10:30:00"), 1_714_552_200),
        ("date,time", ("{0}T00:00:00+02:00", "10:30"), 1_714_552_200),
        ("date,time", ("{0}Z", "10h30"), 1_714_559_400),
        ("date,hour", ("{0}", "10.0"), 1_714_557_600),
    ],
)
def test_dates_have_offsets_and_times_odd_forms(tmp_path: Path, head: str, cells: tuple[str, ...], first: int) -> None:
    """The day is that of the date's own clock."""
    log = log_of(tmp_path / "log.csv", rows_of(head, *cells))
    assert min(seconds for _, _, seconds in triples(log)) == first


def test_durations_beside_dates_are_named(tmp_path: Path) -> None:
    """As pandas writes times of the day into Parquet."""
    rows = {"user_id": ["u"], "item_id": ["i"], "date": [date(2024, 5, 1)], "time": [timedelta(hours=10)]}
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(
        SimError, match=r"'time', .* looks like times of the day of 'date', .*--time-offset time adds it"
    ):
        open_log([str(tmp_path / "log.parquet")], {})
    log = open_log([str(tmp_path / "log.parquet")], {"time_offset": "time"})
    assert triples(log) == [("u", "i", 1_714_557_600)]


def test_rows_without_the_time_of_their_day_are_bad(tmp_path: Path) -> None:
    """They are not read as midnight."""
    content = rows_of("date,time", "{0}", "{2}:30").replace(",1:30", ",unknown").replace(",2:30", ",")
    with pytest.raises(SimError, match=r"4 of 20 rows are bad .4 × time is no time of the day"):
        log_of(tmp_path / "log.csv", content)
    content = rows_of("date,hour", "{0}", "{1}").replace(",19\n", ",24\n")
    with pytest.raises(SimError, match=r"1 of 20 rows are bad .1 × hour is no hour of the day, 0 to 23"):
        log_of(tmp_path / "log.csv", content)


def test_the_line_of_a_refusal_is_that_which_inspect_prints(tmp_path: Path) -> None:
    """With what the log needs besides: bad rows, duplicates, ties in the order of ids."""
    content = rows_of("ts,tz", "{0} 10:00", "CEST").replace("\nu3,", "\n,")
    with pytest.raises(SimError, match=r"reads it .*--time-zone UTC --skip-bad 1$"):
        log_of(tmp_path / "log.csv", content)


def test_ratings_with_gaps_are_proposed_as_such(tmp_path: Path) -> None:
    """The line that reads them leaves out the rows without; another makes each row a click."""
    content = rows_of("ts,rating", "{0} 10:00", "{2}").replace(",3\n", ",\n")
    with pytest.raises(
        SimError, match=r"'rating' is not read, .*--rating rating --skip-bad 2 or hstu replay .* item_id$"
    ):
        log_of(tmp_path / "log.csv", content)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("clicked_at", "2023-11-14 22:13:{:02}"),
        ("shown", "14.11.2023 22:13:{:02}"),
        ("clicked_title", "Red shoes {}"),
        ("first_clicked", "Red shoes {}"),
        ("price_shown", "9.{:02} EUR"),
        ("last_impressions", '"1,0{:02}"'),
    ],
)
def test_times_prose_and_numbers_are_no_slates(tmp_path: Path, name: str, cell: str) -> None:
    """Whatever their names; ids are."""
    rows = [f"u{n},i,{T + n}," for n in range(20)]
    content = "".join(f"{row}{cell.format(n)}\n" for n, row in enumerate(rows))
    assert len(log_of(tmp_path / "log.csv", f"user_id,item_id,ts,{name}\n{content}")) == 20
    content = "".join(f"{row}a{n} b {n}\n" for n, row in enumerate(rows))
    with pytest.raises(SimError, match=r"The lists .* are not read"):
        log_of(tmp_path / "log.csv", f"user_id,item_id,ts,shown\n{content}")


def test_a_column_of_times_is_no_slate_whatever_its_name(tmp_path: Path) -> None:
    """Where it is that of the log."""
    content = "".join(f"u{n},i{n},2023-11-14 22:13:{n:02}\n" for n in range(20))
    log = log_of(tmp_path / "log.csv", f"user_id,item_id,clicked_at\n{content}")
    assert [ts for _, _, ts in triples(log)] == [T - 20 + n for n in range(20)]
