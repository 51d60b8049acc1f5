"""`hstu inspect`: what it prints of a log, and the line to run."""

import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sim.config import load
from sim.errors import SimError
from sim.inspect.command import run_inspect
from sim.sources.open_log import open_log
from sim.sources.roles.known import names

T = 1_700_000_000


@pytest.fixture
def inspected(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What it prints, with blanks as they may be wrapped made one."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*log: str, **flags: Any) -> str:
        run_inspect(lambda given: load(None, given), log, flags)
        return capsys.readouterr().out

    return run


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


def test_what_is_not_plain_is_asked_for(tmp_path: Path, inspected: Any) -> None:
    """A flag that is given decides, and the rest is guessed again."""
    path = tmp_path / "log.csv"
    path.write_text(f"who,what,ts\na,b,{T}\n")
    assert "No column is plainly the user or the item; name it by --user COLUMN" in inspected(str(path))
    assert "--user who --item what --time ts" in inspected(str(path), user="who", item="what", time="ts")


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
    assert "--explode or --shown" in said
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


def test_types_are_in_words(tmp_path: Path, inspected: Any) -> None:
    """Of a JSON array with lists, and of Parquet with timestamps."""
    path = tmp_path / "log.json"
    rows = ", ".join(f'{{"user_id": "u{n}", "item_id": "i", "ts": {T + n}, "tags": ["a"]}}' for n in range(9))
    path.write_text(f"[{rows}]")
    said = inspected(str(path))
    assert "log.json: a JSON array, 4 columns" in said
    assert "lists of texts" in said
    at = pl.from_epoch(pl.Series("ts", [T, T + 1]))
    pl.DataFrame({"user_id": ["u", "v"], "item_id": [1, 2], "ts": at}).write_parquet(tmp_path / "log.parquet")
    said = inspected(str(tmp_path / "log.parquet"))
    assert "times are timestamps (UTC)" in said
    assert "Datetime" not in said


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
