"""Runs side by side: what happens to them when the command is stopped or killed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

from tests.sim.compare.commands import SMALL, WORLD, command, run


def wait_for(what: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_interrupted_it_goes_on(tmp_path: Path) -> None:
    """Ctrl-C leaves checkpoints and no process; the same command ends with the figures of one that went through."""
    flags = ("--events", "1000", "--jobs", "2")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen(command(tmp_path, *flags), env=os.environ | SMALL, start_new_session=True, **quiet)
    runs = tmp_path / "out" / "runs"
    wait_for(lambda: runs.exists() and any(path.name.startswith("popularity") for path in runs.glob("*.json")))
    children = psutil.Process(started.pid).children(recursive=True)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does
    assert started.wait(60) == 130
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
    assert json.loads((tmp_path / "out" / "about.json").read_text())["finished"] == ""
    assert run(tmp_path, *flags).returncode == 0
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "small.toml").write_text(WORLD)
    assert run(whole, "--events", "1000", "--jobs", "1").returncode == 0
    columns = ("contestant", "examples_digest", "model_digest", "hr10", "late_hr10", "frozen_hr10", "mrr")
    first, second = (pl.read_parquet(p / "out" / "runs.parquet").select(columns) for p in (tmp_path, whole))
    assert first.sort("contestant").equals(second.sort("contestant"))


def test_workers_do_not_outlive_a_killed_command(tmp_path: Path) -> None:
    """After kill -9 of the command its workers end by themselves."""
    started = subprocess.Popen(
        command(tmp_path, "--events", "20000"),
        env=os.environ | SMALL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process = psutil.Process(started.pid)
    wait_for(lambda: len(process.children(recursive=True)) >= 2)
    children = process.children(recursive=True)
    started.kill()
    started.wait()
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 30)
