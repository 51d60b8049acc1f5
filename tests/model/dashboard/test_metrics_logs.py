"""Points of metrics.jsonl: read once as the file grows, and again when a trainer has rewritten it."""

import json
import shutil
from pathlib import Path

import pytest

from model.dashboard import metrics_logs
from model.dashboard.metrics_logs import MetricsLogs, point_of
from tests.dashboard import line, write_lines


def test_points_come_as_lines_are_written(tmp_path: Path) -> None:
    """Half a line waits for its rest; what is no line of a trainer is passed over; no folder is no trainer."""
    logs = MetricsLogs(tmp_path)
    logs.look()
    assert logs.series == {}
    path = write_lines(tmp_path, "silu", line("silu", 1))
    write_lines(tmp_path, "softmax", line("softmax", 1))
    with path.open("a") as file:
        file.write('[1]\nno json\n{"name": "silu"')
    logs.look()
    with path.open("a") as file:
        file.write("}\n")
    write_lines(tmp_path, "silu", line("silu", 2, share=0.5))
    logs.look()
    assert list(logs.series) == ["silu", "softmax"]
    silu = logs.series["silu"]
    assert [(point["targets"], point["died"], silu.generation) for point in silu.points] == [(1000, 5, 0), (2000, 5, 0)]
    assert silu.points[1]["window"]["hstu"]["all"] == [1000, 0.5, 0.5]
    assert silu.points[1]["window"]["encoder"]["unseen"][0] == 0


def test_a_rewritten_file_is_read_again(tmp_path: Path) -> None:
    """A trainer that continues from a checkpoint replaces the file: the points are of a new generation."""
    path = write_lines(tmp_path, "silu", *(line("silu", window) for window in (1, 2, 3)))
    logs = MetricsLogs(tmp_path)
    logs.look()
    kept = b"".join(path.read_bytes().splitlines(keepends=True)[:1])
    path.with_suffix(".new").write_bytes(kept)
    path.with_suffix(".new").replace(path)
    write_lines(tmp_path, "silu", line("silu", 2), line("silu", 3), line("silu", 4))
    logs.look()
    assert logs.series["silu"].generation == 1
    assert [point["step"] for point in logs.series["silu"].points] == [10, 20, 30, 40]


def test_a_trainer_that_is_deleted_goes(tmp_path: Path) -> None:
    """Its series goes with its folder; one of the same name that comes later has a generation of its own."""
    path = write_lines(tmp_path, "silu", line("silu", 1))
    write_lines(tmp_path, "softmax", line("softmax", 1))
    logs = MetricsLogs(tmp_path)
    logs.look()
    before = logs.series["silu"].generation
    shutil.rmtree(path.parent)
    logs.look()
    assert list(logs.series) == ["softmax"]
    write_lines(tmp_path, "silu", line("silu", 3))
    logs.look()
    assert [point["step"] for point in logs.series["silu"].points] == [30]
    assert logs.series["silu"].generation != before


def test_points_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most, every other one goes, never the newest nor an alarm of drift; readers get all anew."""
    monkeypatch.setattr(metrics_logs, "MOST", 4)
    alarm = {"signal": "loss", "targets": 2000, "event_ms": 1, "value": 6.5}
    found = [line("silu", window) for window in range(1, 8)]
    found[1]["drift"] = [alarm]
    write_lines(tmp_path, "silu", *found)
    logs = MetricsLogs(tmp_path)
    logs.look()
    assert [point["step"] for point in logs.series["silu"].points] == [10, 30, 50, 70]
    assert [point["drift"] for point in logs.series["silu"].points] == [[], [alarm], [], []]
    assert logs.series["silu"].generation == 1


def test_a_point_is_small() -> None:
    """None of what the page does not draw is sent to it; a broken line is None."""
    assert set(point_of(b"{}") or {}) == set()
    point = point_of(json.dumps(line("silu", 1)).encode())
    assert point is not None
    counts = {"step", "targets", "test_share", "event_ms", "loss", "items", "born", "died", "wall_s"}
    assert set(point) == counts | {"drift", "recovering", "window"}
