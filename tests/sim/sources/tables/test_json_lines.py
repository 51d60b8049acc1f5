"""JSON lines: strange lists, fields that come late, lists in lists."""

import json
from pathlib import Path
from typing import Any

import pytest

from sim.errors import SimError
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
    """Rows without it are bad, instead of all being clicks."""
    rows: list[dict[str, Any]] = [{"user_id": "u", "item_id": "i", "ts": T + n} for n in range(300)]
    rows += [{**row, "event": "buy"} for row in rows[:50]]
    with pytest.raises(SimError, match=r"300 of 350 rows are bad .*event is no action"):
        log_of(tmp_path / "log.jsonl", lines(*rows))


@pytest.mark.parametrize("explode", ["orders.lines", "orders,orders.lines"])
def test_a_list_in_a_list_is_refused(tmp_path: Path, explode: str) -> None:
    """With the list that it lies in; no row vanishes."""
    order = {"at": T, "lines": [{"sku": "a"}, {"sku": "b"}]}
    with pytest.raises(SimError, match=r"has the list 'orders.lines' in the list 'orders', and only"):
        log_of(tmp_path / "log.jsonl", lines({"user_id": "u", "orders": [order]}), explode=explode, user="user_id")
