"""Logs as people have them: rows that used to vanish or to be misread have the right values, or are refused by name."""

import json
from pathlib import Path

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.open_log import open_log
from tests.sim.sources.logs import START_S, events_of, log_of, triples

T = START_S


@pytest.mark.parametrize("name", ["log.tsv", "log.csv"])
def test_no_row_vanishes_behind_a_stray_quote(tmp_path: Path, name: str) -> None:
    """A TSV has no quoting; in a CSV a quote that swallows whole rows is refused, with the flag that ends quoting."""
    rows = [
        ("u1", "a", "shoes"),
        ("u1", "b", '"cheap shoes'),
        ("u2", "a", "socks"),
        ("u3", "c", 'tv 55"'),
        ("u3", "e", ""),
    ]
    lines = [[user, item, str(T + 60 * n), query] for n, (user, item, query) in enumerate(rows)]
    between = "\t" if name.endswith("tsv") else ","
    content = "".join(between.join(line) + "\n" for line in [["user_id", "item_id", "ts", "query"], *lines])
    wanted = [(user, item, T + 60 * n) for n, (user, item, _) in enumerate(rows)]
    if name == "log.csv":
        with pytest.raises(SimError, match=r"Row 2 of .*a quote that swallows lines .*--quote none"):
            log_of(tmp_path / name, content)
    assert triples(log_of(tmp_path / name, content, **({"quote": "none"} if name == "log.csv" else {}))) == wanted


def test_quotes_that_are_meant_still_hold_separators_and_lines(tmp_path: Path) -> None:
    """An id with a comma, a quote and a line break in it."""
    log = log_of(tmp_path / "log.csv", f'user_id,item_id,ts\nu1,"a, ""b""\nc",{T}\nu2,d,{T + 1}\n')
    assert triples(log) == [("u1", 'a, "b"\nc', T), ("u2", "d", T + 1)]


@pytest.mark.parametrize(
    ("odd", "row"),
    [(f"{T}000", 3), ("0", 3), (str(T)[:5], 3), ("253402300799", 3), (str(T * 10**6), 3), ("253402300799000", 3)],
)
def test_one_odd_time_does_not_decide_the_unit_of_the_others(tmp_path: Path, odd: str, row: int) -> None:
    """The median does; the odd one is refused with its row, or left out."""
    content = f"user_id,item_id,ts\nu1,a,{T}\nu1,b,{T + 60}\nu2,a,{odd}\n"
    with pytest.raises(SimError, match=f"Row {row} of .* has the time '{odd}' in column 'ts', which is no time in sec"):
        log_of(tmp_path / "log.csv", content)
    log = log_of(tmp_path / "log.csv", content, skip_bad="1")
    assert triples(log) == [("u1", "a", T), ("u1", "b", T + 60)]
    assert log.read_as == "integer seconds"


def test_a_unit_can_be_said(tmp_path: Path) -> None:
    """Milliseconds since a session's start are then no seconds."""
    content = "user_id,item_id,ts\nu1,a,5000\nu1,b,1500000\n"
    assert triples(log_of(tmp_path / "log.csv", content, time_unit="ms")) == [("u1", "a", 5), ("u1", "b", 1500)]
    assert any("before 1973" in said for said in log_of(tmp_path / "log.csv", content).remarks)


@pytest.mark.parametrize("day", ["20240131", 20240131, "20240131000000", 20240131.0])
def test_eight_digits_that_are_dates_are_dates(tmp_path: Path, day: object) -> None:
    """As a text, an integer or a float; not seconds in August 1970."""
    pl.DataFrame({"user_id": ["1"], "item_id": ["a"], "ts": [day]}).write_parquet(tmp_path / "log.parquet")
    log = open_log([str(tmp_path / "log.parquet")], {})
    assert triples(log) == [("1", "a", 1_706_659_200)]


def test_a_label_column_makes_slates_with_the_clicks_that_have_a_1(tmp_path: Path) -> None:
    """With a request one slate of three items and one click; without one, each row is a slate of its own."""
    content = f"user_id,item_id,ts,req,label\nu1,a,{T},r1,0\nu1,b,{T},r1,1\nu1,c,{T},r1,False\n"
    log = log_of(tmp_path / "log.csv", content, request="req", action="label")
    shown, click = events_of(log)
    assert shown["items"] == ["a", "b", "c"]
    assert (click["item_id"], click["action"], click["request_id"]) == ("b", "click", "r1")
    alone = log_of(tmp_path / "log.csv", content, action="label")
    assert alone.summary.actions == {"click": 1}
    assert alone.summary.slates == alone.summary.shown == 3
    with pytest.raises(SimError, match="which is no label, 0 or 1"):
        log_of(
            tmp_path / "log.csv",
            content + "".join(f"u{n},a,{T},r{n},0\n" for n in range(250_000)) + f"u,a,{T},r,2\n",
            request="req",
            action="label",
        )


def test_impressions_among_actions_are_shown_only(tmp_path: Path) -> None:
    """In any letters, without a request too; the counts say what is a positive."""
    content = f"user_id,item_id,ts,event\nu1,a,{T},IMPRESSION\nu1,a,{T + 5},click\nu1,b,{T + 9},dislike\n"
    log = log_of(tmp_path / "log.csv", content, action="event")
    assert [event.get("items") for event in events_of(log)] == [["a"], None, None]
    said = log.summary.sentences(("dislike",))[0]
    assert "click 1 (positive)" in said
    assert "dislike 1 (no positive)" in said
    assert "1 items in 1 slates" in said


@pytest.mark.parametrize("name", ["log[1].csv", "log*.csv", "log?.csv", "log[x].csv"])
def test_a_name_with_the_letters_of_a_glob_is_that_file(tmp_path: Path, name: str) -> None:
    """Never another one beside it."""
    (tmp_path / "log1.csv").write_text(f"user_id,item_id,ts\n9,a,{T}\n")
    assert triples(log_of(tmp_path / name, f"user_id,item_id,ts\n1,b,{T}\n")) == [("1", "b", T)]


def test_a_parquet_file_with_brackets_in_its_name_is_that_file(tmp_path: Path) -> None:
    """Its columns as well as its rows."""
    rows = pl.DataFrame({"user_id": ["9"], "item_id": ["a"], "ts": [T], "rating": [1]})
    rows.write_parquet(tmp_path / "log1.parquet")
    rows.drop("rating").with_columns(user_id=pl.lit("1")).write_parquet(tmp_path / "plain.parquet")
    path = (tmp_path / "plain.parquet").rename(tmp_path / "log[1].parquet")
    log = open_log([str(path)], {})
    assert triples(log) == [("1", "a", T)]
    assert log.summary.actions == {"click": 1}


def test_exact_duplicates_are_counted_and_can_be_dropped(tmp_path: Path) -> None:
    """An export that wrote each row twice."""
    content = "user_id,item_id,ts\n" + f"u1,a,{T}\nu1,b,{T}\n" * 2
    log = log_of(tmp_path / "log.csv", content)
    assert (len(log), log.summary.duplicates) == (4, 2)
    assert any("2 rows equal another" in said and "--drop-duplicates" in said for said in log.summary.sentences(()))
    assert triples(log_of(tmp_path / "log.csv", content, drop_duplicates=True)) == [("u1", "a", T), ("u1", "b", T)]


BAD = (
    f"user_id,item_id,ts\n1,2,{T}\n,2,{T}\n\n\\N,3,{T}\n4,NULL,{T}\n5,5,soon\n6,6,{T + 1}\n7,7\n8,8,{T},9\n"
    f"1.78E+18,1,{T}\n"
)


def test_bad_rows_are_counted_by_what_is_wrong(tmp_path: Path) -> None:
    """Blank lines are none; the refusal names the first one, all kinds, and how to go on."""
    with pytest.raises(SimError) as refused:
        log_of(tmp_path / "log.csv", BAD)
    said = str(refused.value)
    assert said.startswith(
        f"Row 8 of {tmp_path}/log.csv (not counting a header) is bad, fewer cells than the 3 columns"
    )
    for part in (
        "7 of 9 rows are bad",
        "2 × user_id is no id",
        "1 × item_id is no id",
        "--skip-bad 7 leaves them out",
        "1 × ts is no time that can be read",
        "1 × more cells than",
        "1 × user_id is a rounded number",
    ):
        assert part in said


def test_bad_rows_are_left_out_up_to_a_limit_and_kept_in_a_file(tmp_path: Path) -> None:
    """By number, share or all; the file has row, reason and cells."""
    kept = tmp_path / "bad.jsonl"
    log = log_of(tmp_path / "log.csv", BAD, skip_bad="all", bad_rows=str(kept))
    assert triples(log) == [("1", "2", T), ("6", "6", T + 1)]
    assert log.summary.bad.total() == 7
    assert any("7 of 9 rows are bad and left out: 2 × user_id is no id" in said for said in log.summary.sentences(()))
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert sorted(line["row"] for line in lines) == [2, 4, 5, 6, 8, 9, 10]
    assert {"user_id": "5", "item_id": "5", "ts": "soon"} in [line["content"] for line in lines]
    for limit in ("7", "78%"):
        assert len(log_of(tmp_path / "log.csv", BAD, skip_bad=limit)) == 2
    for limit in ("6", "77%"):
        with pytest.raises(SimError, match="7 of 9 rows are bad"):
            log_of(tmp_path / "log.csv", BAD, skip_bad=limit)


def test_ties_in_id_order_are_said(tmp_path: Path) -> None:
    """With the flag that removes the order; a random order is told apart."""
    rows = [(f"u{n % 3}", item, T + n // 3) for n in range(30) for item in range(8)]
    content = "user_id,item_id,ts\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    said = log_of(tmp_path / "log.csv", content).summary.sentences(())
    assert any(
        "88% of the events" in s and "100% of these come in rising order" in s and "--shuffle-ties" in s for s in said
    )
    content = "user_id,item_id,ts\n" + "".join(f"{u},{i * 5 % 8},{t}\n" for u, i, t in rows)
    assert not any("order of the item's id" in s for s in log_of(tmp_path / "log.csv", content).summary.sentences(()))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2019-10-01 00:00:05 UTC", 1_569_888_005),
        ("2019-10-01T00:00:05 GMT", 1_569_888_005),
        ("2019-10-01T00:00:05Z[UTC]", 1_569_888_005),
        ("2024-01-02 03:04:05.678 -0800", 1_704_193_445),
        ("2024-01-02 3:04:05", 1_704_164_645),
        ("2024/01/02", 1_704_153_600),
        ("2024/01/02 03:04:05", 1_704_164_645),
        ("11/25/2019 8:55:22 AM", 1_574_672_122),
        ("25.11.2019 08:55:22", 1_574_672_122),
        ("Tue Nov 26 08:55:22 +0000 2019", 1_574_758_522),
    ],
)
def test_times_as_warehouses_write_them(tmp_path: Path, text: str, seconds: int) -> None:
    """UTC behind a time, blanks before offsets, hours of one digit, and formats that fit in one way only."""
    assert triples(log_of(tmp_path / "log.csv", f"user_id,item_id,ts\n1,a,{text}\n")) == [("1", "a", seconds)]


def test_a_format_that_fits_in_two_ways_is_asked_for(tmp_path: Path) -> None:
    """The third of April or the fourth of March."""
    content = "user_id,item_id,ts\n1,a,03/04/2024 05:00:00\n"
    with pytest.raises(SimError, match=r"may hold %m/%d/%Y %H:%M:%S or %d/%m/%Y %H:%M:%S, .*--time-format"):
        log_of(tmp_path / "log.csv", content)
    log = log_of(tmp_path / "log.csv", content, time_format="%d/%m/%Y %H:%M:%S")
    assert triples(log) == [("1", "a", 1_712_120_400)]


def test_local_times_are_of_the_zone(tmp_path: Path) -> None:
    """Summer and winter; a time with an offset is that instant."""
    content = "user_id,item_id,ts\n1,a,2024-07-01 12:00:00\n1,b,2024-01-01 12:00:00\n1,c,2024-01-01T12:00:00+00:00\n"
    log = log_of(tmp_path / "log.csv", content, time_zone="Europe/Berlin")
    assert triples(log) == [("1", "b", 1_704_106_800), ("1", "c", 1_704_110_400), ("1", "a", 1_719_828_000)]


def test_a_date_and_an_offset_make_a_time(tmp_path: Path) -> None:
    """Milliseconds since midnight, or a time of the day."""
    content = "user_id,item_id,ts,frame\n1,a,2016-05-09,526309\n"
    assert triples(log_of(tmp_path / "log.csv", content, time_offset="frame")) == [("1", "a", 1_462_752_526)]
    content = "user_id,item_id,ts,frame\n1,a,2016-05-09,01:02:03\n"
    assert triples(log_of(tmp_path / "log.csv", content, time_offset="frame")) == [("1", "a", 1_462_755_723)]


def test_a_header_that_is_missing_is_noticed(tmp_path: Path) -> None:
    """No event is lost for one; columns then have numbers."""
    content = f"11,2268328,2520771,look,{T}\n11,2333346,2520771,buy,{T + 9}\n"
    with pytest.raises(
        SimError, match=r"its first line looks like data.*1 \(11\), 2 \(2268328\).*hstu replay .* --time 5 --user"
    ):
        log_of(tmp_path / "log.csv", content)
    with pytest.raises(SimError, match="has no column '11'"):
        log_of(tmp_path / "log.csv", content, user="11", item="2268328", time=str(T))
    log = log_of(tmp_path / "log.csv", content, user="1", item="2", time="5", action="4")
    assert triples(log) == [("11", "2268328", T), ("11", "2333346", T + 9)]


def test_types_that_are_no_ids_are_sentences(tmp_path: Path) -> None:
    """Lists, structs and bytes that are no text: no traceback."""
    path = tmp_path / "log.parquet"
    plain = {"user_id": ["1"], "item_id": ["a"], "ts": [T]}
    for column, value in (("item_id", [["a", "b"]]), ("user_id", [{"a": 1}]), ("ts", [[1]])):
        pl.DataFrame(plain | {column: value}).write_parquet(path)
        with pytest.raises(SimError, match=r"--explode|objects in .user_id.; name .* user_id.a|its columns are"):
            open_log([str(path)], {})
    pl.DataFrame(plain | {"user_id": [b"\xff\xfe"]}).write_parquet(path)
    with pytest.raises(SimError, match="is no id"):
        open_log([str(path)], {})


def test_floats_and_decimals_are_the_ids_that_were_meant(tmp_path: Path) -> None:
    """Each cell by itself: one fraction does not give all others a .0."""
    pl.DataFrame({"user_id": [1.0, 2.5], "item_id": [3.0, 4.0], "ts": [T, T + 1]}).with_columns(
        pl.col("item_id").cast(pl.Decimal(20, 9))
    ).write_parquet(tmp_path / "log.parquet")
    assert triples(open_log([str(tmp_path / "log.parquet")], {})) == [("1", "3", T), ("2.5", "4", T + 1)]


def test_nothing_but_bad_rows_is_refused(tmp_path: Path) -> None:
    """Rather than an empty replay."""
    with pytest.raises(SimError, match="no row that can be replayed"):
        log_of(tmp_path / "log.csv", "user_id,item_id,ts\n,a,1\n", skip_bad="all")


@pytest.mark.parametrize(("close", "lines"), [('"', 51), ("", 100)])
def test_each_line_that_a_quote_swallows_is_a_bad_row(tmp_path: Path, close: str, lines: int) -> None:
    """So that a limit of bad rows is one: up to the next quote, or to the end of the file."""
    rows = [f"u{n},i{n},{T + n},x" for n in range(200)]
    rows[100] = f'u100,i100,{T + 100},"x'
    rows[150] += close
    content = "user_id,item_id,ts,query\n" + "\n".join(rows) + "\n"
    for limit in ("1", "1%", str(lines - 1)):
        with pytest.raises(SimError, match=f"{lines} of 200 rows are bad .*--skip-bad {lines} leaves them out"):
            log_of(tmp_path / "log.csv", content, skip_bad=limit)
    log = log_of(tmp_path / "log.csv", content, skip_bad=str(lines))
    assert (len(log), log.summary.read) == (200 - lines, 200)


def test_a_quote_at_the_start_of_a_line_swallows_no_row(tmp_path: Path) -> None:
    """Two rows run together into one of the right width."""
    content = f'user_id,item_id,ts\nu0,z,{T}\n"u1,a,{T}\nu2",b,{T + 1}\nu3,c,{T + 2}\n'
    with pytest.raises(SimError, match="2 of 4 rows are bad"):
        log_of(tmp_path / "log.csv", content)


def test_empty_files_and_a_readme_are_no_part_of_a_log(tmp_path: Path) -> None:
    """Among others; alone an empty file is refused."""
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "README.md").write_text("# A log\n")
    (folder / "part-0.csv").write_bytes(b"")
    (folder / "part-1.csv").write_text(f"user_id,item_id,ts\nu,a,{T}\n")
    assert triples(open_log([str(folder)], {})) == [("u", "a", T)]
    assert triples(open_log([str(path) for path in sorted(folder.glob("*.csv"))], {})) == [("u", "a", T)]
    with pytest.raises(SimError, match="has no rows"):
        open_log([str(folder / "part-0.csv")], {})


def test_whole_numbers_are_one_id_with_and_without_a_fraction(tmp_path: Path) -> None:
    """As pandas writes them beside missing ones; in the log's files and in its catalogue."""
    for name, user, item in (("a", "7.0", "3"), ("b", "7", "3.0")):
        (tmp_path / f"{name}.csv").write_text(f"user_id,item_id,ts\n{user},{item},{T}\n,{item},{T}\n")
    (tmp_path / "items.txt").write_text("item_id,title\n3.0,Three\n")
    flags = {"skip_bad": "2", "items": str(tmp_path / "items.txt")}
    log = open_log([str(tmp_path / "*.csv")], flags)
    assert [(user, item) for user, item, _ in triples(log)] == [("7", "3"), ("7", "3")]
    assert any("has 1 of the log's 1 items" in said for said in log.remarks)


def test_ids_among_which_some_are_no_whole_numbers_stay_as_they_are(tmp_path: Path) -> None:
    """Versions, for one."""
    log = log_of(tmp_path / "log.csv", f"user_id,item_id,ts\nu,1.0,{T}\nu,1.1,{T + 1}\nu,1,{T + 2}\n")
    assert [item for _, item, _ in triples(log)] == ["1.0", "1.1", "1"]


@pytest.mark.parametrize("cells", [("0,5", "4"), (" 0,50", "4,0 "), ("0,5000", "+4,0")])
@pytest.mark.parametrize("flags", [{}, {"rating": "rating"}])
def test_ratings_may_have_a_decimal_comma(tmp_path: Path, cells: tuple[str, str], flags: dict[str, str]) -> None:
    """Named or guessed; never is every row a click in silence."""
    content = f"user_id;item_id;ts;rating\nu;a;{T};{cells[0]}\nu;b;{T + 1};{cells[1]}\n"
    log = log_of(tmp_path / "log.csv", content, **flags)
    assert [(event["action"], event["value"]) for event in events_of(log)] == [("rate", 0.5), ("rate", 4.0)]


def test_a_comma_that_may_mark_thousands_is_refused(tmp_path: Path) -> None:
    """0,125 can be no thousands."""
    content = f"user_id;item_id;ts;rating\nu;a;{T};0,125\nu;b;{T + 1};1,000\nu;c;{T + 2};four\n"
    with pytest.raises(SimError, match=r"1 × rating is no number; 1 × rating has a comma that may mark thous"):
        log_of(tmp_path / "log.csv", content, rating="rating")
    log = log_of(tmp_path / "log.csv", content, rating="rating", skip_bad="2")
    assert [event["value"] for event in events_of(log)] == [0.125]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_blanks_around_an_id_are_no_part_of_it(tmp_path: Path, name: str) -> None:
    """As around a name in the header; blanks alone are no id. In a request and a catalogue as well."""
    rows = pl.DataFrame(
        {
            "user_id": [" u1", "u1 ", " ", "u1"],
            "item_id": ["i1 ", " i2", "i3", " NULL "],
            "req": ["r ", " r", "r", "r"],
            "label": [" 0", "1 ", "0", "0"],
            "ts": [f" {T} "] * 4,
        }
    )
    write = {"log.csv": rows.write_csv, "log.jsonl": rows.write_ndjson, "log.parquet": rows.write_parquet}[name]
    write(tmp_path / name)
    (tmp_path / "items.txt").write_text("item_id , title\ni1 ,One\n i2,Two\n")
    flags = {"request": "req", "action": "label", "skip_bad": "2", "items": str(tmp_path / "items.txt")}
    log = open_log([str(tmp_path / name)], flags)
    shown, click = events_of(log)
    assert (shown["user_id"], shown["request_id"], shown["items"]) == ("u1", "r", ["i1", "i2"])
    assert (click["user_id"], click["request_id"], click["item_id"]) == ("u1", "r", "i2")
    assert log.summary.bad == {"user_id is no id": 1, "item_id is no id": 1}
    assert [key for key, _ in log.catalogue] == ["i1", "i2"]


@pytest.mark.parametrize("text", ["2020-03-29 02:30:00", "2020-03-29T02:30", "29.03.2020 02:30:00"])
def test_a_time_that_summer_time_leaves_out_is_refused(tmp_path: Path, text: str) -> None:
    """In any format; in UTC it is a time."""
    other = text.replace("02:30", "03:30")
    content = f"user_id,item_id,ts\nu,a,{other}\nu,b,{other}\nu,c,{text}\n"
    with pytest.raises(SimError, match=r"Row 3 of .*, or one that summer time in Europe/Berlin leaves out"):
        log_of(tmp_path / "log.csv", content, time_zone="Europe/Berlin")
    assert triples(log_of(tmp_path / "log.csv", content))[0] == ("u", "c", 1_585_449_000)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:00-01:00", "0001-01-01T00:00:00+01:00"])
def test_a_time_beyond_the_calendar_is_a_bad_row(tmp_path: Path, text: str) -> None:
    """No traceback."""
    content = f"user_id,item_id,ts\nu,a,2020-01-01T00:00:00Z\nu,b,2020-01-01T00:00:00Z\nu,c,{text}\n"
    assert len(log_of(tmp_path / "log.csv", content, skip_bad="1")) == 2


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1900000000", ["Its last time, 2030-03-17, lies in the future"]),
        ("133512840000000000", ["Its first time, 1974-03-26, lies before 1990"]),
        ("1970-01-01", ["Its first time, 1970-01-01, lies before 1990"]),
        ("5000", ["Its times lie before 1973"]),
        (str(T), []),
    ],
)
def test_a_time_that_no_log_has_is_said(tmp_path: Path, written: str, said: list[str]) -> None:
    """Whatever it was read as, with the flags that read it otherwise."""
    log = log_of(tmp_path / "log.csv", f"user_id,item_id,ts\nu,a,{written}\nu,b,{written}\n")
    remarks = [each for each in log.remarks if each.startswith("Its ")]
    assert len(remarks) == len(said)
    assert all(each.startswith(start) and "--time-unit" in each for each, start in zip(remarks, said, strict=True))
