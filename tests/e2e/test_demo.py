"""`hstu demo`: it runs the pipeline, leaves no process behind, and Ctrl-C at any moment is clean."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.hstu import hstu


def started(parent: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo as a shell would, in its own process group."""
    command = [sys.executable, "-m", "sim.main", "demo", "--in", str(parent), *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HSTU_")}
    return subprocess.Popen(
        command,
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_behind(parent: Path) -> list[list[str]]:
    """Return the command lines of processes that work in the demo's directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line, cwd = process.info["cmdline"] or [], process.info["cwd"] or ""
        if any(str(parent) in word for word in (*line, cwd)):
            found.append(line)
    return found


@pytest.mark.broker
def test_it_answers_and_leaves_no_process(tmp_path: Path) -> None:
    """The metrics of trainers and baselines, ten titles, a dashboard until Ctrl-C; one directory, to be queried."""
    process = started(tmp_path, "--limit", "1000", "--stay")
    assert process.stdout is not None
    output = ""
    while "stays up until Ctrl-C" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    dashboard = re.findall(r"http://127\.0\.0\.1:\d+/", output)
    assert len(set(dashboard)) == 1
    assert "hstu-stream" in httpx.get(dashboard[0]).text
    with httpx.stream("GET", f"{dashboard[0]}dashboard/stream") as response:
        events = (line for line in response.iter_lines() if line.startswith("data: "))
        now = next(data for line in events if "processes" in (data := json.loads(line.removeprefix("data: "))))
    assert [one["kind"] for one in now["processes"]] == ["worker", "ended", "ended"]
    assert (now["processes"][0]["lag"], now["letters"]["last"]) == (0, [])
    os.kill(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    output += rest
    assert process.returncode == 0, output
    for expected in ("hstu, silu", "hstu, softmax", "popularity", "last_items", " 10 "):
        assert expected in output
    shown = re.search(r"Top 10 for user (\d+)", output)
    assert shown
    assert "By popularity" not in output  # a user who has rows among those read
    (directory,) = tmp_path.iterdir()
    assert str(directory) in output
    assert re.search(r"Done in \d+ s; data and logs stay in", output)
    assert left_behind(tmp_path) == []
    query = re.search(rf"hstu (--config .* query topk --user {shown[1]})", output)
    assert query
    assert "\n10\t" in hstu(*query[1].split()).stdout


@pytest.mark.broker
@pytest.mark.parametrize(
    ("moment", "how"),
    [
        pytest.param("Everything is written", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("Kafka is ready", signal.SIGINT, marks=pytest.mark.slow),
        ("MovieLens is replayed", signal.SIGTERM),
        pytest.param(" worker ", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_is_clean_at_any_moment(moment: str, how: signal.Signals, tmp_path: Path) -> None:
    """Exit 130 without a traceback, no process left, the directory named."""
    process = started(tmp_path, "--limit", "1000")
    assert process.stdout is not None
    seen = ""
    while moment not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    os.kill(process.pid, how)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, seen + rest
    assert "Traceback" not in rest
    assert re.search(r"Stopped after \d+ s; data and logs stay in", rest)
    deadline = time.monotonic() + 5
    while left_behind(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_behind(tmp_path) == []
