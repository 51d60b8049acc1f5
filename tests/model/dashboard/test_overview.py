"""One look for all who watch, whatever cannot be read."""

from pathlib import Path
from typing import Any

import pytest

from model.config import ServeSettings
from model.dashboard.delays import Counts
from model.dashboard.last_letters import SHOWN
from model.dashboard.overview import Overview, _counts
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


@pytest.mark.parametrize("kind", [None, "starting"])
def test_a_process_that_is_silent_leaves_the_counts_unknown(kind: str | None) -> None:
    """It may be a worker, whose backlog nobody knows then."""
    worker = {"kind": "worker", "events": 500, "lag": 3, "examples": 80}
    trainer = {"kind": "trainer", "name": "silu", "learned": 60, "lag": 15, "waiting": 5}
    assert _counts([worker, trainer], "silu", 50) == {
        "taken": Counts(503, 503, 500),
        "learnt": Counts(80, 80, 60),
        "served": Counts(80, 80, 50),
    }
    assert set(_counts([worker, trainer, {"kind": kind}], "silu", 50).values()) == {None}
