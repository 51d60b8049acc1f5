"""`hstu inspect`: what it prints of a log, and the line to run."""

import json
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from sim.console import ERR
from sim.errors import SimError
from sim.main import app
from sim.replay.open_source import describe
from sim.sources.open_log import open_log
from sim.sources.roles.known import names

T = 1_700_000_000


def test_the_line_replays_what_was_inspected(tmp_path: Path, inspected: Any) -> None:
    """With the flags that the log needs: bad rows, ties in id order; the counts are right."""
    path = tmp_path / "a log.csv"
    rows = [f"u{n},{item},{T + n},view" for n in range(10) for item in range(5)]
    path.write_text("\n".join(["customer;product;when;event", *(row.replace(",", ";") for row in rows), f";1;{T};buy"]))
    said = inspected(str(path))
    for part in (
        "separator ';', no quoting, a header, 4 columns",
        "user, sure",
        "51 rows, 50 events of 10 users on 5 items, from 2023-11-14 22:13:20 to 2023-11-14 22:13:29 (UTC)",
        "5.0 events a user; times are integer seconds",
        "Actions: view 50 (positive).",
        "1 of 51 rows are bad and left out: 1 × customer is no id.",
        "100% of these come in rising order",
    ):
        assert part in said
    line = shlex.split(said.strip().splitlines()[-1])
    assert line[:3] == ["hstu", "replay", str(path)]
    assert line[3:] == shlex.split(
        "--time when --action event --user customer --item product --skip-bad 1 --shuffle-ties 1"
    )
    names = [flag.removeprefix("--").replace("-", "_") for flag in line[3::2]]
    assert len(open_log([str(path)], dict(zip(names, line[4::2], strict=True)) | {"shuffle_ties": 1})) == 50


def test_the_summary_is_of_what_the_line_replays(tmp_path: Path, inspected: Any) -> None:
    """Where most rows are there twice, the line drops them, and so do the figures."""
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,ts\n" + "".join(f"u{n // 2},i,{T + n // 2}\n" for n in range(40)))
    said = inspected(str(path))
    assert "40 rows, 20 events of 20 users" in said
    assert "20 rows equal another in every column that is read; they are left out." in said
    assert said.strip().splitlines()[-1].endswith("--drop-duplicates")


@pytest.mark.parametrize(
    "row",
    [
        lambda n: f"u{n // 4},i,{T + n // 4},{n}",  # another column tells them apart
        lambda n: f"u{n // 8},i,2024-01-0{1 + n % 4},x",  # the same thing twice on a day
        lambda n: f"u{n // 4},i,2024-01-01 10:00:00,x",  # in an hour
        lambda n: f"u{n // 4},i,{T + n // 4},order_id",  # units of an order
    ],
)
def test_rows_that_may_be_events_of_their_own_are_not_proposed_to_be_dropped(
    tmp_path: Path, inspected: Any, row: Any
) -> None:
    """Equal in what is read, but not in all columns, or with times too coarse to tell."""
    path = tmp_path / "log.csv"
    content = "user_id,item_id,ts,note\n" + "".join(row(n) + "\n" for n in range(40))
    path.write_text(content.replace("note", "order_id") if "order_id" in content else content)
    said = inspected(str(path))
    assert "rows equal another in every column that is read, and count as events of their own" in said
    assert "--drop-duplicates" not in said.strip().splitlines()[-1]


def test_the_role_of_a_column_that_a_flag_names_is_shown(tmp_path: Path, inspected: Any) -> None:
    """As named; that of others as guessed."""
    path = tmp_path / "log.csv"
    path.write_text("who,item_id,date,time\na,b,2024-01-31,10:00:00\na,c,2024-01-31,11:00:00\n")
    said = inspected(str(path), user="who")
    roles = {line.split("│")[1].strip(): line.split("│")[6].strip() for line in said.splitlines() if "│" in line}
    assert roles == {"who": "user, named", "item_id": "item, sure", "date": "time, sure", "time": "time-offset, sure"}
    assert said.strip().splitlines()[-1].endswith("--time date --time-offset time --user who")


def test_a_list_in_a_list_is_said_to_be_too_deep(tmp_path: Path, inspected: Any) -> None:
    """No flag unfolds it, so none is proposed; with the outer one neither."""
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"user": "u", "ts": T, "orders": [{"id": 1, "lines": [{"sku": "a", "qty": 2}]}]}))
    for flags in ({}, {"explode": "orders"}):
        said = inspected(str(path), **flags)
        assert "orders.lines is a list in each element of the list orders" in said
        assert "Inspect again with --explode orders.lines" not in said


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("user~item~time\na~b~1700000000\n", "It has one column, as nothing that usually separates cells fits"),
        ("user_id,item_id,moment\na,b,3~Jan~24 10:00\n", "perhaps 'moment' does, with cells such as '3~Jan~24 10:00'"),
    ],
)
def test_what_looks_like_times_is_named(tmp_path: Path, inspected: Any, content: str, sentence: str) -> None:
    """With the flag that reads it."""
    path = tmp_path / "log.csv"
    path.write_text(content)
    said = inspected(str(path))
    assert sentence in said
    assert "nothing to replay" not in said


def test_what_is_not_plain_is_asked_for(tmp_path: Path, inspected: Any) -> None:
    """A flag that is given decides, and the rest is guessed again."""
    path = tmp_path / "log.csv"
    path.write_text(f"who,what,ts\na,b,{T}\n")
    assert "No column is plainly the user or the item; name it by --user COLUMN" in inspected(str(path))
    assert "--user who --item what --time ts" in inspected(str(path), user="who", item="what", time="ts")


@pytest.mark.parametrize(
    ("flags", "code"), [({"user": "who"}, 1), ({"user": "who", "item": "what", "time_format": "%Y"}, 1), ({}, 0)]
)
def test_the_exit_code_says_whether_it_can_be_replayed(tmp_path: Path, flags: dict[str, str], code: int) -> None:
    """A role is missing, or nothing can be read so; the list of known logs is no failure."""
    path = tmp_path / "log.csv"
    path.write_text(f"who,what,ts\na,b,{T}\nc,d,{T + 1}\n")
    given = [part for name, value in flags.items() for part in ("--" + name.replace("_", "-"), value)]
    done = CliRunner().invoke(app, ["inspect", *([str(path)] if flags else []), *given])
    assert done.exit_code == code, done.output


def test_a_table_without_times_is_no_log(tmp_path: Path, inspected: Any) -> None:
    """Ratings that nobody dated."""
    path = tmp_path / "ratings.csv"
    path.write_text('"User-ID";"ISBN";"Book-Rating"\n"u276725";"034545104X";"x"\n')
    assert "No column holds times" in inspected(str(path))


def test_lists_and_known_logs_are_shown(tmp_path: Path, inspected: Any) -> None:
    """Without a log all known ones are listed."""
    assert all(name in inspected() for name in names())
    path = tmp_path / "log.jsonl"
    path.write_text('{"session": 1, "events": [{"aid": 2, "ts": 1661119200000, "type": "clicks"}]}\n')
    said = inspected(str(path))
    assert "explode, named" in said
    assert "Recognised as otto" in said
    assert said.strip().splitlines()[-1].endswith("--action events.type --explode events")


@pytest.mark.parametrize(("flags", "user"), [({}, "user_id"), ({"item": "what"}, "user_id"), ({"user": "who"}, "who")])
def test_defaults_hold_as_in_a_replay(tmp_path: Path, inspected: Any, flags: dict[str, str], user: str) -> None:
    """A role that is named hides no other; the last line is one that replays."""
    path = tmp_path / "log.csv"
    path.write_text(f"{user},{flags.get('item', 'item_id')},ts,is_click\na,b,{T},1\na,c,{T},0\n")
    said = inspected(str(path), **flags)
    assert "Actions: click 1 (positive). Shown: 2 items in 2 slates." in said
    line = shlex.split(said.strip().splitlines()[-1])
    assert line[:3] == ["hstu", "replay", str(path)]
    read = dict(zip([flag.removeprefix("--").replace("-", "_") for flag in line[3::2]], line[4::2], strict=True))
    assert open_log([str(path)], read).summary.shown == 2


def test_nothing_is_said_of_a_line_that_does_not_come(tmp_path: Path, inspected: Any) -> None:
    """Where a role is missing."""
    path = tmp_path / "log.csv"
    path.write_text(f"who,what,ts\na,b,{T}\n")
    said = inspected(str(path))
    assert "No column is plainly" in said
    assert "the line below" not in said


@pytest.mark.parametrize("header", ["user_id,item_id,ts", "who,what,when"])
def test_a_log_without_rows_is_a_sentence_and_no_advice(tmp_path: Path, inspected: Any, header: str) -> None:
    """There is no line to correct, and nothing to say about columns that hold nothing."""
    (tmp_path / "log.csv").write_text(header + "\n")
    with pytest.raises(SimError, match="has no rows; there is nothing to replay"):
        inspected(str(tmp_path / "log.csv"))


def test_the_advice_to_correct_a_line_stands_above_one(tmp_path: Path, inspected: Any) -> None:
    """Where the log cannot be replayed by the guess, there is no line, and no such advice."""
    path = tmp_path / "log.csv"
    path.write_text(f"1,a,{T}\n2,b,{T + 1}\n")
    said = inspected(str(path), user="1", item="2", time="3", time_format="%Y")
    assert "It cannot be replayed so" in said
    assert "correct the line below" not in said


def _nested(path: Path, item: str = "product") -> str:
    """Write two sessions of two events each."""
    events = [{item: {"id": f"p{n}"}, "at": (T + n) * 1000} for n in range(4)]
    sessions = [{"session": {"visitor_id": f"v{n}"}, "events": events[2 * n : 2 * n + 2]} for n in range(2)]
    path.write_text("\n".join(map(json.dumps, sessions)))
    return str(path)


def test_what_lies_in_lists_is_found_by_one_flag(tmp_path: Path, inspected: Any) -> None:
    """Without it the list and the flag are named; with it the roles that are sure are taken, and the line replays."""
    log = _nested(tmp_path / "log.jsonl")
    said = inspected(log)
    assert "JSON lines, 2 columns and 2 in lists" in said
    assert "No column outside of lists is plainly the item or the time" in said
    assert "events holds events.product.id, events.at. Inspect again with --explode events" in said
    said = inspected(log, explode="events")
    assert "JSON lines, 4 columns\n" in said
    assert "4 rows, 4 events of 2 users on 4 items" in said
    assert "--user session.visitor_id --item events.product.id --explode events" in said


def test_a_list_is_named_where_it_may_hold_what_is_missing(tmp_path: Path, inspected: Any) -> None:
    """The one whose columns have names of the role, and none beside a user that is not plain."""
    path = tmp_path / "log.jsonl"
    row = {"who": "u", "ts": T, "tags": [{"word": "x"}], "goods": [{"sku": "a"}]}
    path.write_text(json.dumps(row))
    said = inspected(str(path), user="who")
    assert "goods holds goods.sku. Inspect again with --explode goods" in said
    assert "tags holds" not in said
    path.write_text(json.dumps({"item": "a"} | row))
    said = inspected(str(path))
    assert "No column is plainly the user; name it by --user COLUMN, and inspect again." in said
    assert "--explode goods" not in said


def test_an_exploded_list_of_ids_is_the_item_that_its_name_says(tmp_path: Path, inspected: Any) -> None:
    """Its elements are as good as a column."""
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"user": "u", "ts": T, "product": ["a", "b"]}))
    said = inspected(str(path), explode="product")
    assert "2 rows, 2 events of 1 users on 2 items" in said
    assert "--item product --explode product" in said


def test_exploded_objects_are_no_action(tmp_path: Path, inspected: Any) -> None:
    """Whatever the name of their list."""
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"user": "u", "event": [{"item": "a", "ts": T}], "label": [{"rank": 1}]}))
    assert "Actions: click 1 (positive)." in inspected(str(path), explode="event,label")


def test_slates_in_lists_are_read_by_the_time_that_is_likely(tmp_path: Path, inspected: Any) -> None:
    """Without flags the lists and --shown are named; with them, the one column of times is taken, but not as sure."""
    path = tmp_path / "slates.parquet"
    slates = {"user_id": [1, 2], "impression_time": [datetime(2024, 1, 1)] * 2}
    pl.DataFrame(slates | {"inview": [[1, 2], [3, 4]], "hits": [[1], [3]]}).write_parquet(path)
    said = inspected(str(path))
    assert "No column is plainly the item; name it by --item COLUMN" in said
    assert "name what was shown (inview, hits) by --shown, and what was clicked, or a label for each, by --cli" in said
    said = inspected(str(path), shown="inview", clicked="hits")
    assert "2 rows, 4 events of 2 users on 4 items" in said
    assert "times are datetimes (UTC)." in said
    assert "Shown: 4 items in 2 slates." in said
    assert "The roles are not all sure" in said
    assert said.strip().splitlines()[-1].endswith("--shown inview --clicked hits --time impression_time")


def test_the_line_is_one_that_a_shell_takes(tmp_path: Path, inspected: Any) -> None:
    """Beside columns that are named, one whose contents are times is taken; names with apostrophes are quoted."""
    path = tmp_path / "log.csv"
    path.write_text("Identifiant d'utilisateur,Objet,Horodatage\na,b,2024-01-01 10:00:00\n")
    said = inspected(str(path), user="Identifiant d'utilisateur", item="Objet")
    line = shlex.split(said.strip().splitlines()[-1])
    assert line[3:] == ["--time", "Horodatage", "--user", "Identifiant d'utilisateur", "--item", "Objet"]


def test_candidates_that_are_not_sure_are_named(tmp_path: Path, inspected: Any) -> None:
    """Of two columns of one name the first."""
    path = tmp_path / "log.csv"
    path.write_text(f"user,buyer.id,item.id,old.item.id,ts\n1,2,a,b,{T}\n")
    said = inspected(str(path))
    assert "Column 'item.id' may be the item, and 'old.item.id' as well, which holds other values." in said
    assert said.strip().splitlines()[-1].endswith("--time ts --user user --item item.id")


def test_names_of_columns_are_whole_in_a_narrow_table(
    tmp_path: Path, inspected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folded where they do not fit."""
    name = "impression_" + "of_the_first_page_" * 4
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,ts,{name}\na,b,{T},x\n")
    monkeypatch.setenv("COLUMNS", "60")
    cells = [line.split("│")[1].strip() for line in inspected(str(path)).splitlines() if line.startswith("│")]
    assert "".join(cells) == f"user_iditem_idts{name}"


def test_what_a_file_holds_is_said_in_words(tmp_path: Path, inspected: Any) -> None:
    """An array of JSON is no lines; types are no library's."""
    path = tmp_path / "log.json"
    path.write_text(json.dumps([{"user": "u", "item": "a", "ts": T}]))
    assert "log.json: a JSON array, 3 columns" in inspected(str(path))
    rows = {"user": [1], "item": [1.5], "ts": [datetime(2024, 1, 1)], "note": [True], "list": [[1]]}
    pl.DataFrame(rows).with_columns(pl.col("ts").dt.replace_time_zone("Asia/Tokyo")).write_parquet(tmp_path / "log")
    said = inspected(str(tmp_path / "log"))
    held = [line.split("│")[2].strip() for line in said.splitlines() if line.startswith("│")]
    assert held == ["integers", "numbers", "datetimes", "booleans", "lists"]
    assert "from 2023-12-31 15:00:00" in said
    assert "times are datetimes (Asia/Tokyo)." in said


def test_cells_are_shown_as_they_are_read(tmp_path: Path, inspected: Any) -> None:
    """Without blanks around them, numbers with a decimal comma as numbers."""
    path = tmp_path / "log.csv"
    path.write_text(f"user;item;rating;ts\nu1 ;a;0,5;{T}\n u1;b;4,0;{T + 1}\nu1;c;NaN;{T + 2}\n")
    lines = [line.split() for line in inspected(str(path)).splitlines()]
    users, ratings = (next(line for line in lines if line[1:2] == [name]) for name in ("user", "rating"))
    assert users[3::2][:3] == ["texts", "u1", "1"]
    assert ratings[3] == "numbers"


@pytest.mark.parametrize("column", ["date", "sold"])
def test_dates_that_may_be_read_in_two_ways_are_asked_for(tmp_path: Path, inspected: Any, column: str) -> None:
    """By the column and the flags; with the format alone the log is read."""
    path = tmp_path / "log.csv"
    path.write_text(f"user,item,{column}\na,b,03/04/2020 10:00:00\na,c,04/05/2020 10:00:00\n")
    assert f"--time {column} --time-format '%m/%d/%Y %H:%M:%S'" in inspected(str(path))
    said = inspected(str(path), time_format="%d/%m/%Y %H:%M:%S")
    assert "2 rows, 2 events of 1 users on 2 items, from 2020-04-03 10:00:00 to 2020-05-04 10:00:00" in said
    assert "No column holds times as %d.%m.%Y;" in inspected(str(path), time_format="%d.%m.%Y")


def test_a_name_in_brackets_is_printed_as_it_is(tmp_path: Path, inspected: Any, capsys: Any) -> None:
    """Where it stands in a sentence, in a table, or before a replay; it is no markup."""
    path = tmp_path / "log[y].csv"
    path.write_text(f"user_id,item_id,ts,[bold]\nu,i,{T},[red]\n")
    said = inspected(str(path))
    assert f"{path}: separator" in said
    assert "│ [bold] " in said
    assert "│ [red] " in said
    ERR.print(describe(open_log([str(path)], {})))
    assert "log[y].csv: 1 events" in capsys.readouterr().err
