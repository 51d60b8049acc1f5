"""`hstu compare` as people run it: processes, a folder that goes on, tables and a report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil

WORLD = """
title = "A small world"
[base]
events = 600
users = 30
items = 60
categories = 6
days = 2
[[shock]]
at_d = 1.0
items = 6
factor = 20.0
half_life_d = 0.2
"""


def command(folder: Path, *flags: str) -> list[str]:
    world = folder / "small.toml"
    if not world.exists():
        world.write_text(WORLD)
    main = "import sys; from sim.main import main; main()"
    chosen = ("--scenario", str(world), "--contestant", "silu", "--contestant", "softmax", "--contestant", "popularity")
    return [sys.executable, "-c", main, "compare", *chosen, "--out", str(folder / "out"), *flags]


def environment() -> dict[str, str]:
    small = {"DIM": "8", "LAYERS": "1", "HEADS": "1", "BIAS": "none"}
    return (
        os.environ
        | {f"HSTU_MODEL__{key}": value for key, value in small.items()}
        | {
            "HSTU_STREAM__EXAMPLE_TOKENS": "16",
            "HSTU_TRAIN__NEGATIVES": "16",
            "COLUMNS": "160",
        }
    )


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *flags), env=environment(), text=True, capture_output=True, check=False)


def test_a_comparison_from_file_to_report(tmp_path: Path) -> None:
    """Two seeds of three contestants and the bound: tables with all of them, equal examples, and nothing run twice."""
    done = run(tmp_path, "--seeds", "2", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    runs = pl.read_parquet(out / "runs.parquet")
    assert runs.group_by("contestant").len().sort("contestant").rows() == [
        (name, 2) for name in ("oracle", "popularity", "silu", "softmax")
    ]
    learnt = runs.filter(pl.col("kind") != "oracle")
    assert learnt.group_by("seed").agg(pl.col("examples_digest").n_unique())["examples_digest"].to_list() == [1, 1]
    assert (learnt["targets"] == 600).all()
    curves = pl.read_parquet(out / "curves.parquet").join(learnt.select("run", whole="hr10"), on="run")
    hits = curves.group_by("run").agg(pl.col("hr10").sum() / pl.col("targets").sum(), pl.col("whole").first())
    assert (hits["hr10"] - hits["whole"]).abs().max() < 1e-12  # type: ignore[operator]
    moments = pl.read_parquet(out / "moments.parquet")
    assert moments["name"].to_list() == ["shock 1"] * 2
    about = json.loads((out / "about.json").read_text())
    assert about["planned"] == 8
    assert about["finished"] > about["started"] > ""
    assert "<html" in (out / "report.html").read_text()
    assert "HR@10 against softmax" in done.stdout
    again = run(tmp_path, "--seeds", "2", "--jobs", "2")
    assert "8 runs, 0 of them to do" in again.stderr
    assert pl.read_parquet(out / "runs.parquet").equals(runs)


def test_a_run_that_diverges_does_not_end_the_others(tmp_path: Path) -> None:
    """It is named with its settings and its reason, the report has the others, and the exit code tells."""
    done = run(tmp_path, "--vary", "learning_rate=1e-3,1e30")
    assert done.returncode == 1
    assert "2 of the runs failed, and are not in the report: " in done.stderr
    assert f"silu learning_rate=1e+30 on {tmp_path / 'small.toml'}, seed 0: At step" in done.stderr
    assert "training has diverged" in done.stderr
    runs = pl.read_parquet(tmp_path / "out" / "runs.parquet")
    assert sorted(runs["contestant"]) == ["oracle", "popularity", "silu", "softmax"]
    assert "2 of 6 planned runs have not ended" in (tmp_path / "out" / "report.html").read_text()


def test_what_the_oracle_cannot_know_does_not_end_the_others(tmp_path: Path) -> None:
    """Records of 600 events are beyond the oracle; who is compared runs all the same, and the terminal says why."""
    main, out = command(tmp_path)[:4], ("--out", str(tmp_path / "out"))
    options = ("--scenario", "paper", "--contestant", "popularity", "--records", "20", "--vary", "length=600")
    done = subprocess.run([*main, *options, *out], text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert "oracle on paper, seed 0: " in done.stderr
    assert pl.read_parquet(tmp_path / "out" / "runs.parquet")["contestant"].to_list() == ["popularity"]


def wait_for(what: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_interrupted_it_goes_on(tmp_path: Path) -> None:
    """Ctrl-C leaves checkpoints and no process; the same command ends with the figures of one that went through."""
    flags = ("--events", "1500", "--jobs", "2")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen(command(tmp_path, *flags), env=environment(), start_new_session=True, **quiet)
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
    assert run(whole, *flags).returncode == 0
    columns = ("contestant", "examples_digest", "model_digest", "hr10", "late_hr10", "frozen_hr10", "mrr")
    first, second = (pl.read_parquet(p / "out" / "runs.parquet").select(columns) for p in (tmp_path, whole))
    assert first.sort("contestant").equals(second.sort("contestant"))


def test_workers_do_not_outlive_a_killed_command(tmp_path: Path) -> None:
    """After kill -9 of the command its workers end by themselves."""
    started = subprocess.Popen(
        command(tmp_path, "--events", "20000"), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    process = psutil.Process(started.pid)
    wait_for(lambda: len(process.children(recursive=True)) >= 2)
    children = process.children(recursive=True)
    started.kill()
    started.wait()
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 30)
