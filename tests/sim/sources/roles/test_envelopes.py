"""Envelopes around rows: their columns are not guessed to be those of the rows."""

from pathlib import Path
from typing import Any

import pytest

from sim.sources.open_log import open_files, open_log
from sim.sources.roles.resolve import resolve
from tests.sim.sources.logs import START_S as T, events_of
from tests.sim.sources.roles.look_alikes import LOOK_ALIKES, kcat, objects

ROWS = [{"user_id": f"u{n}", "item_id": "a", "created_at": (T + n) * 1000} for n in range(6)]


def debezium(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """Return the change of a row: created, updated, deleted in turn."""
    op, source = "cud"[number % 3], {"connector": "postgresql", "ts_ms": T * 1000, "table": "views"}
    before, after = {**row, "created_at": T * 500} if op != "c" else None, row if op != "d" else None
    return {"before": before, "after": after, "source": source, "op": op, "ts_ms": (T + 90) * 1000 + number}


CHANGES = [debezium(number, row) for number, row in enumerate(ROWS)]
ENVELOPES = {
    "kcat": [kcat("clicks", **row) for row in ROWS],
    "debezium": CHANGES,
    "debezium, with its schema": [{"schema": {"type": "struct"}, "payload": change} for change in CHANGES],
    "debezium, by kcat": [kcat("clicks", **change) for change in CHANGES],
    "maxwell": [
        {"database": "shop", "table": "views", "type": "insert", "ts": T, "data": row, "old": {"user_id": "x"}}
        for row in ROWS
    ],
    "mongodb": [{"fullDocument": row, "fullDocumentBeforeChange": {"user_id": "x"}} for row in ROWS],
    "dynamodb": [{"dynamodb": {"NewImage": row, "OldImage": {**row, "user_id": "x"}}} for row in ROWS],
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_rows_are_read_out_of_their_envelope(tmp_path: Path, name: str) -> None:
    """The new row, with its own time; what was deleted is a bad row."""
    path = tmp_path / "log.jsonl"
    path.write_text(objects(*ENVELOPES[name]))
    flags = resolve(open_files([str(path)], {}), {}).flags
    log = open_log([str(path)], {**flags, "skip_bad": "all"})
    found = [(event["user_id"], event["ts"] // 1000) for event in events_of(log)]
    kept = [n for n in range(6) if "debezium" not in name or n % 3 != 2]
    assert found == [(f"u{n}", T + n) for n in kept]


@pytest.mark.parametrize("name", [*ENVELOPES, *LOOK_ALIKES])
def test_the_flags_of_a_guess_read_what_was_guessed(tmp_path: Path, name: str) -> None:
    """A line that names them all gets no other roles besides, as it did for what lies around records of kcat."""
    alike = LOOK_ALIKES.get(name)
    path = tmp_path / (alike.file if alike else "log.jsonl")
    path.write_text(alike.content if alike else objects(*ENVELOPES[name]))
    flags = resolve(open_files([str(path)], {}), {}).flags
    again = resolve(open_files([str(path)], flags), flags)
    assert again.flags == flags
