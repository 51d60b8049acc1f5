"""Parquet: the same rows as JSON has."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.open_log import open_log
from tests.sim.sources.logs import START_S as T, log_of, triples

NESTED: list[dict[str, Any]] = [
    {"user": "1", "ts": T, "items": [{"id": "a"}, {"id": "b"}]},
    {"user": "2", "ts": T + 1, "items": []},
    {"user": "3", "ts": T + 2, "items": None},
    {"user": "4", "ts": T + 3, "items": [{"id": "c"}]},
]
UNEQUAL: list[dict[str, Any]] = [
    {"user": "1", "ids": ["a", "b"], "times": [T, T + 1]},
    {"user": "2", "ids": ["a", "b"], "times": [T + 2]},
    {"user": "3", "ids": ["c"], "times": [T + 3, T + 4]},
    {"user": "4", "ids": [], "times": []},
]


@pytest.mark.parametrize(
    ("rows", "flags", "wanted", "bad", "left_out"),
    [
        (
            NESTED,
            {"time": "ts", "item": "items.id", "explode": "items"},
            [("1", "a", T), ("1", "b", T), ("4", "c", T + 3)],
            0,
            2,
        ),
        (
            UNEQUAL,
            {"time": "times", "item": "ids", "explode": "ids,times", "skip_bad": "1"},
            [("1", "a", T), ("1", "b", T + 1), ("2", "a", T + 2), ("3", "c", T + 3)],
            1,
            2,
        ),
    ],
)
def test_lists_that_are_empty_or_unequal_are_counted(
    tmp_path: Path,
    rows: list[dict[str, Any]],
    flags: dict[str, Any],
    wanted: list[tuple[str, str, int]],
    bad: int,
    left_out: int,
) -> None:
    """Each row of the file, or element of the longer list, is an event, a bad row, or one without an item."""
    path = tmp_path / "log.parquet"
    pl.DataFrame(rows).write_parquet(path)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for log in (
        open_log([str(path)], {"user": "user", **flags}),
        log_of(tmp_path / "log.json", lines, user="user", **flags),
    ):
        assert triples(log) == wanted
        assert (log.summary.bad.total(), log.summary.without_item) == (bad, left_out)
        assert log.summary.read == len(wanted) + bad + left_out


def test_what_holds_no_list_is_not_exploded(tmp_path: Path) -> None:
    """The sentence says what it holds."""
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "ts": [T], "dur": [1]}).write_parquet(path)
    with pytest.raises(SimError, match="--explode dur is for lists, and that column holds integers; remove it"):
        open_log([str(path)], {"explode": "dur"})
