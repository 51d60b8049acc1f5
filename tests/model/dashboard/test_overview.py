"""One look for all who watch, whatever cannot be read."""

from pathlib import Path
from typing import Any

import pytest

from model.config import ServeSettings
from model.dashboard.delays import Counts
from model.dashboard.last_letters import SHOWN
from model.dashboard.overview import Overview, _counts, unknown
from tests.dashboard import line, write_lines


def test_it_looks_once_a_second_and_at_letters_seldom(tmp_path: Path) -> None:
    """Ten pages cost what one does; a connection to Kafka is made every ten seconds at most."""
    now_s, asked = [0.0], list[int]()

    def letters(count: int) -> list[dict[str, Any]]:
        asked.append(count)
        return [{"id": "impressions/0/7", "reason": "late", "detail": "", "ts_ms": 1}]

    overview = Overview(ServeSettings(), tmp_path, letters, clock=lambda: now_s[0])
    assert overview.look()[0]["letters"]["last"][0]["reason"] == "late"
    write_lines(tmp_path, "silu", line("silu", 1))
    assert overview.look()[1] == {}
    now_s[0] = 1.0
    assert len(overview.look()[1]["silu"].points) == 1
    assert asked == [SHOWN]
    now_s[0] = 11.0
    overview.look()
    assert asked == [SHOWN] * 2


def test_what_fails_is_said_and_stops_nothing(tmp_path: Path) -> None:
    """Kafka away, the snapshots' folder unreadable (here: a file): the rest is shown; no path is."""

    def fails(count: int) -> list[dict[str, Any]]:
        raise ConnectionError("a secret address")

    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "silu").write_text("no folder")
    now, _ = Overview(ServeSettings(), tmp_path, fails).look()
    assert now["letters"] == {"last": None, "problem": "Kafka does not show them (ConnectionError)."}
    assert now["snapshots"] == []
    assert now["processes"] == []


WORKER = {"kind": "worker", "address": "w:1", "partitions": 4, "open": 4, "events": 500, "lag": 3, "examples": 80}
TRAINER = {"kind": "trainer", "address": "t:1", "name": "silu", "learned": 60, "lag": 15, "waiting": 5}


@pytest.mark.parametrize("kind", [None, "starting"])
def test_a_silent_process_beside_workers_that_have_all_partitions_hides_nothing(kind: str | None) -> None:
    """Whatever it is: what has been made and taken is theirs. That it is silent is said."""
    assert _counts([WORKER, TRAINER], "silu", 50) == {
        "taken": Counts(503, 503, 500),
        "learnt": Counts(80, 80, 60),
        "served": Counts(80, 80, 50),
    }
    assert _counts([WORKER, TRAINER, {"kind": kind}], "silu", 50) == _counts([WORKER, TRAINER], "silu", 50)
    alone = _counts([WORKER, {"kind": kind}], "silu", 50)
    assert alone == {"taken": Counts(503, 503, 500), "learnt": None, "served": None}
    assert set(_counts([TRAINER, {"kind": kind}], "silu", 50).values()) == {None}
    assert unknown([WORKER, TRAINER]) is None
    assert unknown([WORKER, TRAINER, {"kind": kind}]) == "1 of 3 processes give no answer"


def test_partitions_that_nobody_reads_leave_the_counts_unknown() -> None:
    """Their worker has left DNS, or waits for a store that another process has open; the sum over workers decides."""
    half = {**WORKER, "open": 2}
    assert set(_counts([half, TRAINER], "silu", 50).values()) == {None}
    assert unknown([half, TRAINER]) == "2 of 4 partitions are open at no worker that answers"
    assert _counts([half, half, TRAINER], "silu", 50)["taken"] == Counts(1006, 1006, 1000)
    idle = {**WORKER, "open": 0, "events": 0, "examples": 0, "lag": 0}
    assert _counts([WORKER, idle, TRAINER], "silu", 50)["taken"] == Counts(503, 503, 500)


def test_a_kafka_that_is_silent_leaves_the_counts_unknown() -> None:
    """Of a worker what was taken, of a trainer what is learned."""
    assert _counts([{**WORKER, "lag": None}, TRAINER], "silu", 50)["taken"] is None
    found = _counts([WORKER, {**TRAINER, "lag": None}], "silu", 50)
    assert [way for way, counts in found.items() if counts] == ["taken"]
    blind = [{**one, "lag": None} for one in (WORKER, TRAINER)]
    assert unknown(blind) == "Kafka has not told w:1, t:1 of late what is still to be read"


@pytest.mark.parametrize("kind", ["lost", "silent"])
def test_a_trainer_that_is_silent_is_counted_as_silent(kind: str) -> None:
    """Also once it has answered; what it has learned is unknown then, and what workers have taken is not."""
    lost = {"kind": kind, "address": "t:1", "name": "silu"}
    assert unknown([WORKER, lost]) == "1 of 2 processes give no answer"
    assert [way for way, counts in _counts([WORKER, lost], "silu", 50).items() if counts] == ["taken"]
    assert unknown([WORKER, {**lost, "kind": "ended"}]) is None
