"""JSON lines: strange lists, fields that come late, lists in lists."""

import json
from pathlib import Path
from typing import Any

import pytest

from sim.errors import SimError
from sim.sources.open_log import open_files, open_log
from sim.sources.roles import guess, resolve
from sim.sources.tables import json_lines
from sim.sources.tables.batch import ROW
from sim.sources.tables.plain_text import plain_text
from tests.sim.sources.logs import START_S, log_of, triples

T = START_S


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_one_list_in_a_column_of_ids_is_one_bad_row(tmp_path: Path) -> None:
    """Whether among the first rows or in a later batch; the others are read, and the bad one is named."""
    rows = [{"user": f"u{n}", "item": f"i{n}", "timestamp": T + n} for n in range(5)]
    odd = {"user": "u9", "item": ["x", "y"], "timestamp": T + 9}
    content = lines(*rows, odd)
    with pytest.raises(SimError, match=r"Row 6 of .* is bad, item is a list: .*\"u9\".* 1 of 6 rows"):
        log_of(tmp_path / "log.jsonl", content)
    log = log_of(tmp_path / "log.jsonl", content, skip_bad="1")
    assert triples(log) == [(f"u{n}", f"i{n}", T + n) for n in range(5)]
    text = plain_text(tmp_path / "log.jsonl", "log", None, tmp_path)
    batches = list(json_lines.batches(text, ["item"], [], 2, lists=()))
    assert [batch.frame[ROW].to_list() for batch in batches] == [[1, 2], [3, 4], [5]]
    assert [(bad.row, bad.reason) for batch in batches for bad in batch.bad] == [(6, "item is a list")]


def test_a_single_item_in_a_column_of_slates_is_a_slate_of_one(tmp_path: Path) -> None:
    """Most slates may have one item, which some programs write without a list; others are told from ids."""
    rows = [{"user_id": f"u{n}", "shown": "a", "clicked": "a", "ts": T + n} for n in range(3)]
    log = log_of(
        tmp_path / "log.jsonl", lines(*rows, {**rows[0], "shown": ["a", "b"]}), shown="shown", clicked="clicked"
    )
    assert (log.summary.slates, log.summary.shown) == (4, 5)
    content = lines(*({"user_id": "u", "item_id": ["a", "b"], "ts": T + n} for n in range(3)))
    with pytest.raises(SimError, match=r"'item_id' of .* holds lists; .*--explode item_id"):
        log_of(tmp_path / "log.jsonl", content, user="user_id")


def test_a_field_that_comes_late_is_a_column(tmp_path: Path) -> None:
    """Rows without it are bad, instead of all being clicks; where they are most, it is asked whether that is meant."""
    rows: list[dict[str, Any]] = [{"user_id": "u", "item_id": "i", "ts": T + n} for n in range(300)]
    rows += [{**row, "event": "buy"} for row in rows[:50]]
    with pytest.raises(SimError, match=r"'event' is empty in 86% of the rows: --action event --skip-bad all reads"):
        log_of(tmp_path / "log.jsonl", lines(*rows))
    with pytest.raises(SimError, match=r"300 of 350 rows are bad .*event is no action.* That is most of the log"):
        log_of(tmp_path / "log.jsonl", lines(*rows), action="event")


@pytest.mark.parametrize("explode", ["orders.lines", "orders,orders.lines"])
def test_a_list_in_a_list_is_refused(tmp_path: Path, explode: str) -> None:
    """With the list that it lies in; no row vanishes."""
    order = {"at": T, "lines": [{"sku": "a"}, {"sku": "b"}]}
    with pytest.raises(SimError, match=r"has the list 'orders.lines' in the list 'orders', and only"):
        log_of(tmp_path / "log.jsonl", lines({"user_id": "u", "orders": [order]}), explode=explode, user="user_id")


PLAIN = [{"user_id": f"u{n % 9}", "item_id": f"i{n % 7}", "ts": T + n} for n in range(30)]


def test_a_field_of_later_lines_is_named_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not left out in silence, and taken where a flag names it; also one that no look at the file has found."""
    monkeypatch.setattr(json_lines, "_SAMPLE_LINES", 10)
    for module in (guess, resolve):
        monkeypatch.setattr(module, "SAMPLE_ROWS", 30)
    monkeypatch.setattr(json_lines, "_LATER_BYTES", 150)
    late = [{**row, "event": "buy"} for row in PLAIN]
    with pytest.raises(SimError, match=r"Column 'event' has no value in the first 30 rows.*hstu replay .* --time ts"):
        log_of(tmp_path / "log.jsonl", lines(*PLAIN, *late))
    for content in (lines(*PLAIN, *late), lines(*PLAIN[:17], late[0], *PLAIN[17:])):
        log = log_of(tmp_path / "log.jsonl", content, action="event", skip_bad="all")
        assert set(log.summary.actions) == {"buy"}


def test_a_column_that_no_row_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log is read to its end, or at once where all its lines were looked at."""
    event = [{**row, "event": "buy"} for row in PLAIN]
    for name in ("reqest", "context.request"):
        monkeypatch.setattr(json_lines, "_SAMPLE_LINES", 10)
        with pytest.raises(
            SimError, match=rf"No row that was read of .* has a value in column '{name}' .--request.; its columns are"
        ):
            log_of(tmp_path / "log.jsonl", lines(*event), action="event", request=name)
    monkeypatch.setattr(json_lines, "_SAMPLE_LINES", 1000)
    with pytest.raises(SimError, match="has no column 'reqest'; its columns are"):
        log_of(tmp_path / "log.jsonl", lines(*event), action="event", request="reqest")


def test_a_column_of_later_files_is_named_or_read(tmp_path: Path) -> None:
    """Of JSON; files of other formats need all columns that are read."""
    (tmp_path / "a.jsonl").write_text(lines(*PLAIN[:2]))
    (tmp_path / "b.jsonl").write_text(lines(*({**row, "event": "buy"} for row in PLAIN[2:])))
    log = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    with pytest.raises(SimError, match=r"Column 'event' is in .*b.jsonl and not in .*a.jsonl.*--action"):
        open_log(log, {})
    assert len(open_log(log, {"action": "event", "skip_bad": "2"})) == 28
    assert len(open_log(log, {"user": "user_id"})) == 30
    (tmp_path / "a.csv").write_text(f"user_id,item_id,ts\nu,i,{T}\n")
    (tmp_path / "b.csv").write_text(f"user_id,item_id,ts,event\nu,i,{T},buy\n")
    log = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    with pytest.raises(SimError, match=r"Column 'event' is in .*b.csv and not in .*a.csv"):
        open_log(log, {})
    with pytest.raises(SimError, match=r"a.csv has no column 'event'"):
        open_log(log, {"action": "event"})
    (tmp_path / "b.csv").write_text(f"user_id,item_id,ts,zone\nu,i,{T},x\n")
    assert f"Columns that {log[0]} lacks are not read: 'zone', first in {log[1]}." in open_log(log, {}).remarks


def test_an_object_is_no_id(tmp_path: Path) -> None:
    """Where some rows have one it is a bad row; where all have, its fields are named."""
    odd = {**PLAIN[0], "item_id": {"id": "a"}}
    with pytest.raises(SimError, match=r"Row 31 of .* is bad, item_id is an object: .* 1 of 31 rows"):
        log_of(tmp_path / "log.jsonl", lines(*PLAIN, odd))
    with pytest.raises(SimError, match=r"has objects in 'item_id'; name one of their fields: item_id.id."):
        log_of(tmp_path / "log.jsonl", lines(odd), item="item_id")
    slates = [{"user_id": "u", "ts": T, "shown": [{"id": "a"}, {"id": "b"}]}]
    with pytest.raises(SimError, match=r"shown has one that is an object, no id"):
        log_of(tmp_path / "log.jsonl", lines(*slates), user="user_id", shown="shown")


@pytest.mark.parametrize("written", [{"indent": 2}, {"indent": None}])
def test_objects_that_are_no_lines_are_refused_as_such(tmp_path: Path, written: dict[str, int | None]) -> None:
    """Over several lines, or one behind another."""
    content = "".join(json.dumps({"user": n, "item": n}, **written) for n in range(3))  # type: ignore[arg-type]
    with pytest.raises(
        SimError, match=r"has objects that span several lines, or several in one; .* jq -c . FILE > log"
    ):
        log_of(tmp_path / "log.json", content)


def test_keys_that_each_row_makes_anew_are_not_looked_at(tmp_path: Path) -> None:
    """A guess takes the usual fields, in any number of rows; the others can be named."""
    path = tmp_path / "log.jsonl"
    rows = [{"user_id": f"u{n}", "item_id": "i", "ts": T + n, "more": {f"k{n}": "x"}} for n in range(1000)]
    path.write_text(lines(*rows))
    table = open_files([str(path)], {})
    assert guess.sample_of(table).columns == ["user_id", "item_id", "ts"]
    assert len(open_log([str(path)], {})) == 1000
    assert triples(open_log([str(path)], {"item": "more.k7", "skip_bad": "all"})) == [("u7", "x", T + 7)]


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table"])
def test_a_table_in_one_object_is_refused(tmp_path: Path, orient: str) -> None:
    """As pandas writes it; the sentence says how it writes a log."""
    rows = [{"user_id": f"u{n}", "item_id": "i", "ts": T + n} for n in range(12)]
    content = {
        "columns": {name: {str(n): row[name] for n, row in enumerate(rows)} for name in rows[0]},
        "index": {str(n): row for n, row in enumerate(rows)},
        "split": {"columns": [*rows[0]], "index": [*range(12)], "data": [[*row.values()] for row in rows]},
        "table": {"schema": {"fields": [{"name": "user_id"}]}, "data": rows},
    }[orient]
    path = tmp_path / "log.json"
    path.write_text(json.dumps(content))
    with pytest.raises(SimError, match=r"one object with a whole table in it, .*orient='records', lines=True"):
        open_log([str(path)], {})
