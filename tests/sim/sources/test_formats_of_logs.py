"""Formats: the same events from any of them."""

import bz2
import gzip
import io
import json
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import polars as pl
import pytest
import zstandard

from sim.errors import SimError
from sim.sources.open_log import open_log
from sim.sources.tables import json_lines
from tests.sim.sources.logs import START_S as T, events_of, log_of, triples

ROWS = [("07", "a", T), ("8", "é", T + 1), ("07", "b", T + 2)]
CSV = "user_id,item_id,ts\n" + "".join(f"{user},{item},{ts}\n" for user, item, ts in ROWS)
PLAIN = CSV.encode()


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip archive."""
    made = io.BytesIO()
    with ZipFile(made, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "flags"),
    [
        ("log.csv", PLAIN, {}),
        ("LOG.CSV", PLAIN, {}),
        ("log.csv", PLAIN.replace(b"\n", b"\r\n"), {}),
        ("log.csv", PLAIN.replace(b"\n", b"\r"), {}),
        ("log.csv", b"\xef\xbb\xbf" + PLAIN, {}),
        ("log.csv", CSV.encode("utf-16"), {}),
        ("log.csv", CSV.encode("latin-1"), {"encoding": "latin-1"}),
        ("log.csv", CSV.replace(",", ";").encode(), {}),
        ("log.dat", CSV.replace(",", "::").encode(), {}),
        ("log.txt", CSV.replace(",", "|").encode(), {}),
        ("log", CSV.replace(",", "\t").encode(), {}),
        ("log.tsv", CSV.replace(",", "\t").encode(), {}),
        ("log.csv", CSV.replace(",", "#%").encode(), {"separator": "#%"}),
        ("log.csv", PLAIN.partition(b"\n")[2], {"user": "1", "item": "2", "time": "3"}),
        ("log.csv", PLAIN.partition(b"\n")[2], {"header": False, "user": "1", "item": "2", "time": "3"}),
        ("log.csv", b'"user_id","item_id","ts"\n' + b"".join(b'"%s","%s","%d"\n' % (u.encode(), i.encode(), t)
                                                             for u, i, t in ROWS), {}),
        ("log.csv", PLAIN.replace(b"a", b"'a'"), {"quote": "'"}),
        ("log.csv.gz", gzip.compress(PLAIN, mtime=0), {}),
        ("log.csv.gz", gzip.compress(PLAIN[:30], mtime=0) + gzip.compress(PLAIN[30:], mtime=0), {}),
        ("log.csv.gz", PLAIN, {}),
        ("log.csv", gzip.compress(PLAIN, mtime=0), {}),
        ("log.csv.bz2", bz2.compress(PLAIN), {}),
        ("log.csv.xz", lzma.compress(PLAIN), {}),
        ("log.csv.zst", zstandard.compress(PLAIN), {}),
        ("log.json", b"".join(
            json.dumps({"user_id": u, "item_id": i, "ts": t}).encode() + b"\n" for u, i, t in ROWS
        ), {}),
        ("log.jsonl.gz", gzip.compress(b"".join(
            json.dumps({"event": {"u": u, "item": {"id": i}}, "ts": t}).encode() + b"\n" for u, i, t in ROWS
        ), mtime=0), {"user": "event.u", "item": "event.item.id"}),
        ("log.json", json.dumps([{"user_id": u, "item_id": i, "ts": t} for u, i, t in ROWS]).encode(), {}),
        ("log.json", json.dumps([{"user_id": u, "event": {"item": i}, "ts": t} for u, i, t in ROWS], indent=2).encode(),
         {"item": "event.item"}),
        ("log.zip", zipped({"ratings.csv": PLAIN, "README.md": b"read me", "__MACOSX/._ratings.csv": b"x"}), {}),
        ("log.csv.zip", zipped({"log/log.tsv": CSV.replace(",", "\t").encode()}), {}),
        ("log.zip", zipped({"a.csv": PLAIN, "b.csv": b""}), {}),
        ("log.json", "".join(f"{ {'user_id': u, 'item_id': i, 'ts': t} }\n" for u, i, t in ROWS).encode(), {}),
    ],
)  # fmt: skip
def test_the_same_rows_are_the_same_events(tmp_path: Path, name: str, content: bytes, flags: dict[str, Any]) -> None:
    """Ids keep their zeros and their letters."""
    assert triples(log_of(tmp_path / name, content, **flags)) == ROWS


def test_files_of_an_archive_are_named_behind_it(tmp_path: Path) -> None:
    """As in a folder, by name or by a glob; Parquet too; what is not there, is damaged or no log is a sentence."""
    path, parquet = tmp_path / "ml.zip", io.BytesIO()
    pl.DataFrame(ROWS, ["user_id", "item_id", "ts"], orient="row").write_parquet(parquet)
    lines = PLAIN.splitlines(keepends=True)
    days = {"ml/a.csv": b"".join(lines[:2]), "ml/b.csv": lines[0] + b"".join(lines[2:])}
    path.write_bytes(zipped({**days, "ml/movies.dat": b"1::Alien\n", "all.parquet": parquet.getvalue()}))
    for wanted in ("ml/*.csv", "all.parquet"):
        assert sorted(triples(open_log([f"{path}/{wanted}"], {}))) == sorted(ROWS)
    with pytest.raises(SimError, match=r"holds no files tags.csv; it has all.parquet, ml/a.csv, ml/b.csv, ml/movies"):
        open_log([f"{path}/tags.csv"], {})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SimError, match="is a damaged zip archive"):
        open_log([str(path)], {})
    path.write_bytes(zipped({"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"}))
    with pytest.raises(SimError, match="save its table as CSV"):
        open_log([str(path)], {})


@pytest.mark.parametrize("content", ['[{"a": 1}, {"user_id": ', '[{"a": 1}, ' + '{"b":' * 100_000])
def test_an_array_that_does_not_end_is_refused(tmp_path: Path, content: str) -> None:
    """The sentence says how far it can be read."""
    with pytest.raises(SimError, match="is no JSON array behind its 1 first elements"):
        log_of(tmp_path / "log.json", content)


def test_an_array_holds_what_lines_hold(tmp_path: Path) -> None:
    """Half a character is a bad row; long numbers and NaN in a column that is not read are nothing."""
    rows = ['"ts":1600000000,"n":123456789012345678901234567890', '"ts":1600000001,"n":NaN', '"ts":1600000002']
    users = ["u1", "u2", r"u\ud800"]
    texts = [f'{{"user_id":"{user}","item_id":"a",{row}}}' for user, row in zip(users, rows, strict=True)]
    (tmp_path / "log.json").write_text(f"[{','.join(texts)}]")
    log = open_log([str(tmp_path / "log.json")], {"skip_bad": "1"})
    assert (len(log), log.summary.bad.total()) == (2, 1)


def test_a_long_array_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a block ends: in a key, a number, a text with brackets, between elements."""
    rows = [{"user_id": f"u,]}}{n}", "item_id": f'i"[{n}', "ts": T + n} for n in range(40)]
    for block in (7, 64):
        monkeypatch.setattr(json_lines, "_BLOCK", block)
        log = log_of(tmp_path / "log.json", json.dumps(rows))
        assert triples(log) == [tuple(row.values()) for row in rows]


def test_standard_input_is_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `-`, packed or not."""
    for content in (PLAIN, gzip.compress(PLAIN, mtime=0)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert triples(open_log(["-"], {})) == ROWS


def test_a_pipe_is_a_log() -> None:
    """As a shell's <(…) names it; it can be read once only."""
    reading, writing = os.pipe()
    os.write(writing, PLAIN)
    os.close(writing)
    try:
        assert triples(open_log([f"/dev/fd/{reading}"], {})) == ROWS
    finally:
        os.close(reading)


def write_days(folder: Path, write: Callable[[pl.DataFrame, Path], object], extension: str) -> None:
    """Write a file a day, the later one first by name."""
    rows = pl.DataFrame(ROWS, ["user_id", "item_id", "ts"], orient="row")
    folder.mkdir(parents=True)
    write(rows[2:], folder / f"a.{extension}")
    write(rows[:2], folder / f"b.{extension}")
    (folder / "_SUCCESS").write_text("")


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_files_folders_and_globs_come_in_time_order(tmp_path: Path, extension: str) -> None:
    """Whatever their names; each row once."""
    write = pl.DataFrame.write_csv if extension == "csv" else pl.DataFrame.write_parquet
    folder = tmp_path / f"log.{extension}"
    write_days(folder, write, extension)
    paths = [str(folder / f"{name}.{extension}") for name in "ab"]
    for log in ([str(folder)], [str(folder / f"*.{extension}")], paths):
        assert triples(open_log(log, {})) == ROWS
    with pytest.raises(SimError, match="is named twice"):
        open_log([paths[0], paths[0]], {})
    with pytest.raises(SimError, match=r"There is no file .*x"):
        open_log([str(folder / "*.x")], {})


def test_partitions_are_columns(tmp_path: Path) -> None:
    """dt=2024-01-31 holds the column dt of its rows."""
    for day, user in (("2024-01-31", "1"), ("2024-02-01", "2")):
        folder = tmp_path / "log" / f"dt={day}" / "kind=a%2Fb"
        folder.mkdir(parents=True)
        pl.DataFrame({"user_id": [user], "item_id": ["x"]}).write_parquet(folder / "part-0.parquet")
    log = open_log([str(tmp_path / "log")], {"time": "dt", "action": "kind"})
    assert triples(log) == [("1", "x", 1_706_659_200), ("2", "x", 1_706_745_600)]
    assert log.summary.actions == {"a/b": 2}


def test_lists_are_exploded(tmp_path: Path) -> None:
    """OTTO's sessions as JSON lines and as Parquet; parallel lists of one row; an empty list is said."""
    events = [{"aid": 1, "ts": T, "type": "clicks"}, {"aid": 2, "ts": T + 1, "type": "carts"}]
    records = [{"session": 5, "events": events}, {"session": 6, "events": []}]
    flags = {"user": "session", "item": "events.aid", "time": "events.ts", "action": "events.type", "explode": "events"}
    wanted = [("5", "1", T), ("5", "2", T + 1)]
    log = log_of(tmp_path / "log.jsonl", "".join(json.dumps(record) + "\n" for record in records), **flags)
    assert triples(log) == wanted
    assert any("1 rows have no id in 'events.aid', with the lists" in said for said in log.summary.sentences(()))
    pl.DataFrame(records).write_parquet(tmp_path / "log.parquet")
    assert triples(open_log([str(tmp_path / "log.parquet")], flags)) == wanted
    pl.DataFrame({"user_id": [5], "item_id": [[1, 2]], "ts": [[T, T + 1]]}).write_parquet(tmp_path / "log.parquet")
    assert triples(open_log([str(tmp_path / "log.parquet")], {"explode": "item_id,ts"})) == wanted


SHOWN = [("a", "b", "c"), ("b",)]


@pytest.mark.parametrize(
    ("content", "flags"),
    [
        (f"u,t,s\n1,{T},a-0 b-1 c-0\n1,{T + 9},b-1\n", {}),
        (f"u;t;s;c\n1;{T};a,b,c;b\n1;{T + 9};b;b\n", {"clicked": "c"}),
        (f'u;t;s;c\n1;{T};["a", "b", "c"];["b"]\n1;{T + 9};["b"];["b"]\n', {"clicked": "c", "quote": "none"}),
        (
            f'{{"u":1,"t":{T},"s":["a","b","c"],"c":["b"]}}\n{{"u":1,"t":{T + 9},"s":["b"],"c":["b"]}}\n',
            {"clicked": "c"},
        ),
    ],
)
def test_a_slate_in_one_row(tmp_path: Path, content: str, flags: dict[str, str]) -> None:
    """With labels behind its ids, or the clicked ones in another column, as texts or as lists."""
    log = log_of(tmp_path / "log.csv", content, user="u", time="t", shown="s", **flags)
    events = events_of(log)
    assert [tuple(event["items"]) for event in events if "items" in event] == SHOWN
    assert [(e["item_id"], e["ts"] // 1000, e["request_id"]) for e in events if "action" in e] == [
        ("b", T, "row-1"), ("b", T + 9, "row-2"),
    ]  # fmt: skip


def test_clicks_and_other_actions_may_share_a_column(tmp_path: Path) -> None:
    """Rows with a slate say what was clicked of it, those without one what else was done, on an item not shown."""
    content = f"u,t,what,item,seen\n1,{T},click,b,a|b\n1,{T + 5},save,c,\n"
    flags = {"user": "u", "time": "t", "action": "what", "item": "item", "shown": "seen", "clicked": "item"}
    log = log_of(tmp_path / "log.csv", content, **flags)
    assert (log.summary.shown, log.summary.actions) == (2, {"click": 1, "save": 1})


def test_a_line_that_is_no_object_is_bad(tmp_path: Path) -> None:
    """Cut off or of another kind."""
    content = f'{{"user_id":1,"item_id":2,"ts":{T}}}\n{{"user_id":1,"it\n[1]\n\n'
    with pytest.raises(SimError, match=r"2 of 3 rows are bad .2 × no JSON object"):
        log_of(tmp_path / "log.json", content)


def test_another_encoding_is_named_by_its_line(tmp_path: Path) -> None:
    """With the flag that mends it."""
    with pytest.raises(
        SimError, match=r"Line 3 of .* is no utf-8 \(byte 0xe9\); name its encoding: --encoding latin-1"
    ):
        log_of(tmp_path / "log.csv", CSV.encode("latin-1"))


@pytest.mark.parametrize(
    "line",
    [
        '{"user_id": "u", "item_id": "a", "ts": %d, "price": NaN, "deep": [Infinity, -Infinity]}',
        """{'user_id': u'u', 'item_id': 'a', 'ts': %d, 'price': nan, 'deep': [inf, -inf]}""",
        '[{"user_id": "u", "item_id": "a", "ts": %d, "price": NaN}]',
        '{"payload": "{\\"user_id\\": \\"u\\", \\"item_id\\": \\"a\\", \\"ts\\": %d, \\"price\\": NaN}"}',
    ],
)
def test_numbers_that_json_has_not_are_null(tmp_path: Path, line: str) -> None:
    """As Python writes them; in a column that is not read they cost no row, in one that is they are no number."""
    before = "payload." if "payload" in line else ""
    flags = {role: f"{before}{name}" for role, name in (("user", "user_id"), ("item", "item_id"), ("time", "ts"))}
    assert triples(log_of(tmp_path / "log.jsonl", line % T, **flags)) == [("u", "a", T)]
    with pytest.raises(SimError, match=r"which is no number"):
        log_of(tmp_path / "log.jsonl", line % T, **flags, rating=f"{before}price")


def test_a_word_that_looks_like_a_number_is_no_json(tmp_path: Path) -> None:
    """NaN in a line that is broken, or holds half a character."""
    good = json.dumps({"user_id": "u", "item_id": "NaN Infinity", "ts": T}) + "\n"
    bad = '{"user_id": "u", "item_id": NaN, \n{"user_id": "\\ud800", "item_id": "a", "ts": NaN}\nNaN\n'
    log = log_of(tmp_path / "log.jsonl", good + bad, skip_bad="3")
    assert triples(log) == [("u", "NaN Infinity", T)]
    assert log.summary.bad == {"no JSON object": 3}


def test_a_field_of_an_object_in_a_cell_is_refused(tmp_path: Path) -> None:
    """With what to do about it."""
    content = f'user_id,properties,ts\nu,"{{""item"": ""i""}}",{T}\n'
    with pytest.raises(SimError, match=r"no column 'properties.item', and the cells of 'properties' are .* mlr --icsv"):
        log_of(tmp_path / "log.csv", content, item="properties.item", user="user_id", time="ts")


def test_lists_in_lists_are_no_rows(tmp_path: Path) -> None:
    """Of which --explode takes the outer ones; it is not proposed again."""
    content = "".join(f'{{"user_id": "u{n}", "ts": {T + n}, "its": [["a", "b"], ["c"]]}}\n' for n in range(3))
    with pytest.raises(
        SimError, match=r"'its' .* holds lists in lists, of which --explode makes rows of the outer ones"
    ):
        log_of(tmp_path / "log.jsonl", content, explode="its", item="its")
