"""Flags of a log with values that they cannot have: refused in a sentence by every verb."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sim.config import load
from sim.errors import SimError
from sim.inspect.command import run_inspect
from sim.log_flags import FLAGS
from sim.sources.open_log import open_log
from sim.sources.roles.flag_values import check_flags
from tests.sim.sources.logs import START_S as T

TEXTS = [name for name, flag in FLAGS.items() if flag.kind is str]


def inspected(log: list[str], flags: dict[str, Any]) -> None:
    run_inspect(lambda given: load(None, given), log, flags)


@pytest.mark.parametrize("read", [open_log, inspected])  # replay and compare open a log; inspect looks at it first
@pytest.mark.parametrize("name", TEXTS)
def test_an_empty_flag_is_refused(tmp_path: Path, name: str, read: Callable[[list[str], dict[str, Any]], None]) -> None:
    """Before anything is read, by its own name."""
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,ts\nu,i,{T}\n")
    flag = "--as" if name == "read_as" else "--" + name.replace("_", "-")
    for value in ("", " ") if name not in ("separator", "quote") else ("",):
        with pytest.raises(SimError, match=f"^{flag} +is (empty|no single character)"):
            read([str(path)], {name: value})


@pytest.mark.parametrize("name", ["user", "item", "explode", "features"])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [(",", "has a comma"), ("a,", "has a comma"), ("a,,b", "has a comma"), ("a, b,a", "'a' twice")],
)
def test_columns_between_commas_are_named_and_named_once(name: str, value: str, sentence: str) -> None:
    """Of every flag that takes several."""
    check_flags({name: "a, b"})
    with pytest.raises(SimError, match=f"^--{name} '{value}' .*{sentence}"):
        check_flags({name: value})


@pytest.mark.parametrize("name", ["item_id", "title", "features"])
def test_columns_of_a_catalogue_need_one(tmp_path: Path, name: str) -> None:
    """Given by a flag or by a file of one's own."""
    path, items, mine = tmp_path / "log.csv", tmp_path / "items.csv", tmp_path / "mine.toml"
    path.write_text(f"user_id,item_id,ts\nu,i,{T}\n")
    items.write_text("x\ni\n")
    mine.write_text(f"[flags]\nitems = {json.dumps(str(items))}\nitem_id = 'x'\n")
    flag = name.replace("_", "-")
    with pytest.raises(SimError, match=f"--{flag} speaks of columns of the catalogue; name its file by --items"):
        open_log([str(path)], {name: "x"})
    assert len(open_log([str(path)], {"read_as": str(mine), name: "x"}).catalogue) == 1


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"usr": "a"}, r"\[flags\] of mine.toml has the key 'usr'; known are action, "),
        ({"read_as": "mind"}, "has the key 'read_as'"),
        ({"user": 1}, r'user in \[flags\] of mine.toml is 1, which is no text; write user = "1"'),
        ({"user": ["a"]}, "is .'a'., which is no text"),
        ({"limit": "x"}, "limit in .* is 'x', which is no whole number"),
        ({"limit": True}, "is True, which is no whole number"),
        ({"limit": 1.5}, "is 1.5, which is no whole number"),
        ({"positive_from": "4"}, "is '4', which is no number"),
        ({"header": 1}, "is 1, which is no true or false"),
        ({"user": " "}, r"user in \[flags\] of mine.toml is empty"),
    ],
)
def test_flags_of_a_file_have_their_types(flags: dict[str, Any], sentence: str) -> None:
    """The file and the key are named."""
    check_flags({"user": "a", "limit": 1, "positive_from": 4, "header": False}, "mine.toml")
    with pytest.raises(SimError, match=sentence):
        check_flags(flags, "mine.toml")
