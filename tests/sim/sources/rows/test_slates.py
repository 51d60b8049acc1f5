"""Whole slates in one row, as programs write lists."""

import json
from pathlib import Path
from typing import Any

import pytest

from sim.errors import SimError
from tests.sim.sources.logs import START_S as T, events_of, log_of

FLAGS = {"user": "user_id", "time": "ts", "shown": "shown", "clicked": "clicked"}


def slates_of(path: Path, shown: Any, clicked: Any, **flags: Any) -> tuple[list[str], list[str], str]:
    """Return the items shown and clicked of each of three equal rows, and what is said."""
    rows = [{"user_id": n, "ts": T + n, "shown": shown, "clicked": clicked} for n in range(3)]
    log = log_of(path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows), **FLAGS | flags)
    events = [event for event in events_of(log) if event["user_id"] == "1"]
    items = [event["items"] for event in events if "items" in event]
    return items[0], [event["item_id"] for event in events if "action" in event], " ".join(log.remarks)


@pytest.mark.parametrize(
    ("shown", "clicked", "items", "click"),
    [
        ("(1, 2)", "(2,)", "1 2", "2"),
        ("{1,2}", "2", "1 2", "2"),
        ("<1 2>", "2", "1 2", "2"),
        ("[1. 2.]", "2.", "1 2", "2"),
        ("1. 2.", "2", "1 2", "2"),
        ("array([1, 2], dtype=int64)", "[2]", "1 2", "2"),
        ("['a' 'b'\n 'c']", "b", "a b c", "b"),
        ("[1 2\n 3]", "2", "1 2 3", "2"),
        ("[b'a', b'b']", "b", "a b", "b"),
        ("WrappedArray(a, b)", "b", "a b", "b"),
        ("{'a', 'b'}", "b", "a b", "b"),
        (r'["a", "b\u00e9"]', "bé", "a bé", "bé"),
        ("a(1) b(2)", "b(2)", "a(1) b(2)", "b(2)"),
        ("a\nb", "b", "a b", "b"),
        ("[http://x/a?b=1, http://x/b]", "http://x/b", "http://x/a?b=1 http://x/b", "http://x/b"),
        ("{3F25-A} {3F25-B}", "{3F25-B}", "{3F25-A} {3F25-B}", "{3F25-B}"),
        ("rock'n roll", "roll", "rock'n roll", "roll"),
    ],
)
def test_a_list_in_any_brackets_is_one(tmp_path: Path, shown: str, clicked: str, items: str, click: str) -> None:
    """Those of Python, NumPy, Scala and PostgreSQL; brackets and quotes inside of ids are theirs."""
    assert slates_of(tmp_path, shown, clicked) == (items.split(), [click], "")


def test_brackets_that_are_not_around_all_cells_are_part_of_ids(tmp_path: Path) -> None:
    """As the year behind a film's title."""
    rows = "".join(f"u,{T + n},{shown},\n" for n, shown in enumerate(["(a)|(b)", "(a)", "Alien (1979)"]))
    log = log_of(tmp_path / "log.csv", f"user_id,ts,shown,clicked\n{rows}", **FLAGS)
    assert [event["items"] for event in events_of(log)] == [["(a)", "(b)"], ["(a)"], ["Alien (1979)"]]


def test_slates_of_one_item_each_are_said(tmp_path: Path) -> None:
    """What stands between ids may not be known."""
    assert "shows one item; are its ids separated by another sign?" in slates_of(tmp_path, "a/b/c", "")[2]


@pytest.mark.parametrize("item", ["O Brien", "rock'n roll", "a, b"])
def test_a_plain_cell_of_one_id_is_that_id(tmp_path: Path, item: str) -> None:
    """Whatever stands in it, if it was shown."""
    assert slates_of(tmp_path, [item, "x"], item)[:2] == ([item, "x"], [item])
    assert slates_of(tmp_path, json.dumps([item, "x"]), item)[:2] == ([item, "x"], [item])


@pytest.mark.parametrize("fill", [None, -1, 0, "<pad>", float("nan")])
@pytest.mark.parametrize("front", [False, True])
def test_what_fills_lists_up_is_no_item(tmp_path: Path, fill: Any, *, front: bool) -> None:
    """And is said; in lists, and in texts of them."""
    for write in (lambda cell: cell, lambda cell: str(cell).replace("'", "")):
        shown, clicked = ([fill, fill, 1, 2], [fill, 2]) if front else ([1, 2, fill, fill], [2, fill])
        items, clicks, said = slates_of(tmp_path, write(shown), write(clicked))
        assert (items, clicks) == (["1", "2"], ["2"])
        assert "Lists of column 'shown' are filled up with" in said
        assert ("at their beginning" if front else "at their end") in said


def test_an_item_that_is_once_the_last_fills_nothing_up(tmp_path: Path) -> None:
    """0 is one as others are, unless it is there twice."""
    assert slates_of(tmp_path, [1, 2, 0], [0]) == (["1", "2", "0"], ["0"], "")


def test_a_list_that_is_cut_short_is_bad(tmp_path: Path) -> None:
    """As NumPy prints those of more than a thousand."""
    with pytest.raises(SimError, match=r"3 × shown has \.\.\. among its items, for others that were left out"):
        slates_of(tmp_path, "[1 2 3 ... 98 99]", "2")


@pytest.mark.parametrize(
    "shown",
    ["[('a', 0), ('b', 1)]", "{'a': 0, 'b': 1}", '[{"id": "a"}, {"id": "b"}]', "[[1, 2], [3]]", "[(1, 0), (2, 1)]"],
)
def test_lists_of_something_else_are_bad(tmp_path: Path, shown: str) -> None:
    """Pairs, objects and lists in texts become no ids."""
    with pytest.raises(SimError, match="3 × shown has one that is an object, no id"):
        slates_of(tmp_path, shown, "")


@pytest.mark.parametrize("sign", ":_=/")
def test_labels_of_another_form_are_refused(tmp_path: Path, sign: str) -> None:
    """They are no part of ids; where the clicked ones are named they are."""
    shown = " ".join(f"{item}{sign}{int(item == 'b')}" for item in "abcd")
    content = "".join(f"u,{T + n},{shown}\n" for n in range(3))
    with pytest.raises(SimError, match=f"has ids such as 'a{sign}0', which end as if a label .* as -0 and -1"):
        log_of(tmp_path / "log.csv", f"user_id,ts,shown\n{content}", user="user_id", time="ts", shown="shown")
    assert slates_of(tmp_path, shown, f"b{sign}1")[1] == [f"b{sign}1"]


@pytest.mark.parametrize(
    ("shown", "labels", "items", "clicks"),
    [
        ("a|b|c", "0|1|0", "a b c", "b"),
        ([10, 1, 0], [1, 0, 1], "10 1 0", "10 0"),
        ("[10 11 12 10]", "[0 0 0 1]", "10 11 12", "10"),
        ("a b", "False True", "a b", "b"),
        ([1.0, 2.0], [0.0, 1.0], "1 2", "2"),
    ],
)
def test_clicks_may_be_a_label_for_each_item(tmp_path: Path, shown: Any, labels: Any, items: str, clicks: str) -> None:
    """As many as items; which is said."""
    read, clicked, said = slates_of(tmp_path, shown, labels)
    assert (read, sorted(clicked)) == (items.split(), sorted(clicks.split()))
    assert said == "Column 'clicked' has a label for each of the items in 'shown'."


def test_a_label_too_few_is_a_bad_row(tmp_path: Path) -> None:
    """Among many others; ids 0 and 1 that were clicked are ids."""
    rows = [("a b c", "0 1 0")] * 38 + [("a b c", "0 1"), ("a b c", "0 1")]
    content = "user_id,ts,shown,clicked\n" + "".join(f"u,{T + n},{a},{b}\n" for n, (a, b) in enumerate(rows))
    with pytest.raises(SimError, match=r"Row 39 .*has not one label for each item shown") as refused:
        log_of(tmp_path / "log.csv", content, **FLAGS)
    assert "2 of 40 rows are bad" in str(refused.value)
    ids = "user_id,ts,shown,clicked\n" + "".join(f"u,{T + n},0 1 2,{n % 2}\n" for n in range(40))
    log = log_of(tmp_path / "log.csv", ids, **FLAGS)
    assert log.summary.actions == {"click": 40}
    assert not any("label for each" in said for said in log.remarks)
