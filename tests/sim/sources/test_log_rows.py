"""Rows of any layout: each is shown, acted on, or counted under what is wrong with it."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from sim.errors import SimError
from sim.sources.log_columns import LogSettings
from sim.sources.open_log import open_log
from sim.sources.recorded_log import RecordedLog, read_events
from sim.sources.tables.table import FrameTable
from tests.sim.sources.logs import START_S as T, events_of, log_of
from tests.strategies import tries

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "actions": {"action": "what"},
    "actions of requests": {"action": "what", "request": "req"},
    "labels": {"action": "label"},
    "labels of requests": {"action": "label", "request": "req"},
    "ratings": {"rating": "rating", "positive_from": 3},
    "ratings as impressions": {"rating": "rating", "positive_from": 3, "rating_as": "impression"},
    "ratings of requests": {"rating": "rating", "positive_from": 3, "rating_as": "impression", "request": "req"},
    "slates": {"shown": "shown", "clicked": "clicked"},
    "slates of requests": {"shown": "shown", "clicked": "clicked", "request": "req"},
    "slates and actions": {"shown": "shown", "clicked": "clicked", "action": "what"},
    "slates and ratings": {"shown": "shown", "clicked": "clicked", "rating": "rating", "positive_from": 3},
    "slates with labels": {"shown": "marked", "action": "what"},
    "times of two columns": {"time": "date", "time_offset": "clock"},
}
random_rows = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["ann", "bob", "bob", ""]),
            "item": st.sampled_from(["i", "i", "i", ""]),
            "ts": st.sampled_from([T, T + 1, T + 1, None]),
            "date": st.sampled_from(["2024-01-31", "2024-02-01", ""]),
            "clock": st.sampled_from(["10:00:00", "9:30 PM", "25:00", ""]),
            "what": st.sampled_from(["click", "buy", "impression", "", "NULL", None]),
            "label": st.sampled_from(["0", "1", "0", "", "x", None]),
            "rating": st.sampled_from(["1", "5", "", "x"]),
            "req": st.sampled_from(["r1", "r2", "", "NULL", None]),
            "shown": st.sampled_from(["p|q", "p", "p|p", "", "NULL", "p|NULL", None]),
            "clicked": st.sampled_from(["p", "", "NULL", "z", None]),
            "marked": st.sampled_from(["p-0|q-1", "p-1", "", "p", None]),
        }
    ),
    min_size=1,
    max_size=12,
)


def own(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose ids of items no other row has."""
    named = {"item_id": row["item"] and f"{number}i"}
    for name in ("shown", "clicked", "marked"):
        cell = row[name]
        named[name] = cell and "|".join(part if part == "NULL" else f"{number}{part}" for part in cell.split("|"))
    return row | named


def framed(rows: list[dict[str, Any]], **flags: Any) -> RecordedLog:
    types = {name: pl.Int64 if name == "ts" else pl.String for name in rows[0]}
    read = read_events(FrameTable("a log", pl.DataFrame(rows, types)), LogSettings(skip_bad="all", **flags))
    return RecordedLog("a log", "", read.parts, [], read.read_as, read.summary)


@settings(max_examples=tries(60), deadline=None)
@given(random_rows, st.sampled_from(sorted(LAYOUTS)))
def test_every_row_is_in_the_events_or_counted(rows: list[dict[str, Any]], layout: str) -> None:
    """Never both, whatever its cells hold."""
    rows = [own(number, row) for number, row in enumerate(rows)]
    refused = ""
    try:
        log = framed(rows, **LAYOUTS[layout])
    except SimError as error:
        refused = str(error)
    if refused:
        assert f"no row that can be replayed: {len(rows)} of {len(rows)} rows are bad" in refused
        return
    items = {item for e in events_of(log) for item in (e["items"] if "items" in e else [e["item_id"]])}
    there = {int(match[0]) for item in items if (match := re.match(r"\d+", item))}
    assert len(there) + log.summary.bad.total() == log.summary.read == len(rows)


def test_labels_without_a_request_are_slates_of_their_own(tmp_path: Path) -> None:
    """Among others that have one; a label that is missing beside no request is a bad row."""
    content = f"user_id,item_id,ts,req,label\nu,a,{T},,1\nu,b,{T},NULL,0\nu,c,{T + 1},r,1\nu,d,{T + 1},r,\n"
    log = log_of(tmp_path / "log.csv", content, request="req", action="label")
    events = events_of(log)
    assert [event["items"] for event in events if "items" in event] == [["a"], ["b"], ["c", "d"]]
    assert [event["item_id"] for event in events if "action" in event] == ["a", "c"]
    log = log_of(tmp_path / "log.csv", content + f"u,e,{T},,\n", request="req", action="label", skip_bad="1")
    assert log.summary.bad == {
        "label is no label, 0 or 1, as the first rows have, and the row has no request either": 1
    }


def test_a_row_with_a_slate_may_have_an_action_of_its_own(tmp_path: Path) -> None:
    """On an item of it or on another; one without a slate needs an action, or says that its item was shown."""
    content = (
        f"user_id,ts,shown,clicked,item_id,action\nu,{T},a b c,b,a,buy\nu,{T + 10},,,d,save\nu,{T + 20},,,e,\n"
        f"u,{T + 30},,,f,impression\nu,{T + 40},g h,,i,view\n"
    )
    flags = {"shown": "shown", "clicked": "clicked", "action": "action"}
    log = log_of(tmp_path / "log.csv", content, **flags, skip_bad="1")
    assert log.summary.bad == {"action is no action, and the row has no slate either": 1}
    events = events_of(log)
    assert [event["items"] for event in events if "items" in event] == [["a", "b", "c"], ["f"], ["g", "h"]]
    acted = [(event["item_id"], event["action"], event.get("request_id")) for event in events if "action" in event]
    assert acted == [("b", "click", "row-1"), ("a", "buy", "row-1"), ("d", "save", None), ("i", "view", None)]


def test_what_is_shown_late_in_a_log_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though none of the first rows says so."""
    monkeypatch.setattr("sim.sources.log_rows._SAMPLE_ROWS", 1)
    for name, row in (("a", f"u,a,{T},click"), ("b", f"u,b,{T + 1},impression")):
        (tmp_path / f"{name}.csv").write_text(f"user_id,item_id,ts,what\n{row}\n")
    log = open_log([str(tmp_path)], {"action": "what"})
    assert (log.summary.actions, log.summary.shown) == ({"click": 1}, 1)


@pytest.mark.parametrize(
    ("cells", "clicked"),
    [
        ("1 -1", 1),
        ("Ja Nein", 1),
        ("click no_click", 1),
        ("Click No-Click", 1),
        ("click none", 1),
        ("1 NULL", 1),
        ("1.0 -", None),
    ],
)
def test_labels_of_other_words(tmp_path: Path, cells: str, clicked: int | None) -> None:
    """And of 1 and nothing: those are no actions, and it is said; what is no label is an action by its name."""
    yes, no = cells.split()
    content = f"user_id,item_id,ts,label\nu,a,{T},{yes}\nu,b,{T + 1},{no}\nu,c,{T + 2},{no}\n"
    log = log_of(tmp_path / "log.csv", content)
    if clicked is None:
        assert log.summary.shown == 0
        return
    assert (log.summary.shown, log.summary.actions) == (3, {"click": 1})
    assert f"every row was shown, those with {yes.lower()} were clicked" in log.remarks[1]


def test_an_action_that_reads_like_none_is_said(tmp_path: Path) -> None:
    """Counts from 0 to 3, of which 0 would be a positive."""
    content = "user_id,item_id,ts,label\n" + "".join(f"u,i{n},{T + n},{n % 4}\n" for n in range(40))
    log = log_of(tmp_path / "log.csv", content)
    assert log.summary.actions["0"] == 10
    assert any("'0' of column 'label' reads like no action" in said for said in log.remarks)


def test_labels_that_are_there_twice_are_duplicates(tmp_path: Path) -> None:
    """Though each row is a slate of its own."""
    content = "user_id,item_id,ts,label\n" + f"u,a,{T},0\nu,b,{T},1\n" * 2
    assert log_of(tmp_path / "log.csv", content, action="label").summary.duplicates == 2
    log = log_of(tmp_path / "log.csv", content, action="label", drop_duplicates=True)
    assert (log.summary.shown, log.summary.actions) == (2, {"click": 1})


@pytest.mark.parametrize("user", ["0", "(not set)", "somebody"])
def test_a_user_of_very_many_rows_is_said(tmp_path: Path, user: str) -> None:
    """Of a name that stands for nobody from a twentieth of the rows on."""
    rows = "".join(f"{user if n % 3 == 0 else n},a,{T + n}\n" for n in range(60))
    said = log_of(tmp_path / "log.csv", "user_id,item_id,ts\n" + rows).summary.sentences(())
    assert any(f"User {user!r} has 33% of the rows" in each for each in said)
    rows = "".join(f"{user if n < 10 else n},a,{T + n}\n" for n in range(100))
    said = log_of(tmp_path / "log.csv", "user_id,item_id,ts\n" + rows).summary.sentences(())
    assert any("of the rows: if that" in each for each in said) == (user != "somebody")


FLAGS = {"user": "u", "time": "t", "item": "i", "shown": "s", "clicked": "c"}


def slates_of(log: RecordedLog) -> tuple[list[list[str]], list[str]]:
    """Return what was shown, and what was clicked."""
    events = events_of(log)
    return [e["items"] for e in events if "items" in e], [e["item_id"] for e in events if "action" in e]


def parquet(path: Path, shown: Any, clicked: Any, dtypes: Any = None, item: Any = None) -> Path:
    """Write a slate, and behind it an item alone."""
    frame = pl.DataFrame(
        {"u": [1, 1], "t": [T, T + 9], "i": [None, item], "s": [shown, None], "c": [clicked, None]},
        strict=False,
        schema_overrides=dtypes,
    )
    frame.write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("shown", "clicked", "dtypes"),
    [
        ([1.0, 2.0], [2.0], None),
        ([1.0, 2.0], [2], None),
        ([1, 2], [2.0], None),
        ([1, 2, 1], [2, 2], None),
        (["1.0", "2.0"], ["2"], None),
        ([1, 2], [2], {"s": pl.Array(pl.Int64, 2), "c": pl.Array(pl.Int64, 1)}),
        ([b"1", b"2"], [b"2"], None),
        ([1.0, 2.0], 2, None),
    ],
)
def test_ids_in_lists_are_those_of_single_cells(tmp_path: Path, shown: Any, clicked: Any, dtypes: Any) -> None:
    """Whatever their types, and however often one is there."""
    path = parquet(tmp_path / "log.parquet", shown, clicked, dtypes, item=2)
    log = log_of(tmp_path / "x", path.read_bytes(), **FLAGS)
    assert slates_of(log) == ([["1", "2"]], ["2", "2"])
    assert log.summary.duplicates == 0


@pytest.mark.parametrize(
    ("shown", "clicked", "wanted", "hit"),
    [
        ("a|b", "NULL", ["a", "b"], []),
        ("a|b", "nan", ["a", "b"], []),
        ("a|b", "[]", ["a", "b"], []),
        ("1.0|2.0", "2", ["1", "2"], ["2"]),
        ("['a' 'b c']", "b c", ["a", "b c"], ["b c"]),
        ("['a', 'b c']", "['b c']", ["a", "b c"], ["b c"]),
        ("[1 2]", "2", ["1", "2"], ["2"]),
        ("[1.0, 2.0]", "2", ["1", "2"], ["2"]),
    ],
)
def test_lists_in_texts(tmp_path: Path, shown: str, clicked: str, wanted: list[str], hit: list[str]) -> None:
    """As any program writes them, beside slates of another writing; a missing click is none."""
    lines = [{"u": 1, "t": T, "s": shown, "c": clicked}, {"u": 1, "t": T + 9, "s": "7|8", "c": None}]
    log = log_of(tmp_path / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines), **FLAGS)
    assert slates_of(log) == ([wanted, ["7", "8"]], hit)


@pytest.mark.parametrize(
    ("shown", "clicked", "sentence"),
    [
        (["a", None, "b"], ["a"], "column 's', which has an item without an id"),
        (["a", "x" * 257], ["a"], "column 's', which has one that is an id longer than 256 bytes"),
        (["a", "1.5E+09"], ["a"], "column 's', which has one that is a rounded number"),
        (["a", "b"], ["c"], "column 'c', which has items that were not shown"),
    ],
)
def test_what_is_no_id_is_none_in_a_list(tmp_path: Path, shown: Any, clicked: Any, sentence: str) -> None:
    """By the same rules."""
    path = parquet(tmp_path / "log.parquet", shown, clicked, item="e")
    with pytest.raises(SimError, match=sentence):
        log_of(tmp_path / "x", path.read_bytes(), **FLAGS)


def test_lists_of_objects_are_no_slates(tmp_path: Path) -> None:
    """A sentence says so."""
    path = parquet(tmp_path / "log.parquet", [{"id": 1}], None)
    with pytest.raises(SimError, match=r"Column 's' of .* holds objects, and a slate is a list of ids"):
        log_of(tmp_path / "x", path.read_bytes(), **{**FLAGS, "clicked": None})
