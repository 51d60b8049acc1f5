"""bench/keep_up.py: its curves, and a minute of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"


def test_a_count_is_reached_between_two_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the line between them; at the first sample if it is there already, and never if it is not there at the end."""
    monkeypatch.syspath_prepend(str(BENCH))
    from watching import reached_s  # type: ignore[import-not-found]

    at_s, curve = np.array([10.0, 11.0, 12.0, 13.0]), np.array([0.0, 0.0, 8.0, 8.0])
    assert reached_s(np.array([0.0, 2.0, 8.0, 9.0]), at_s, curve).tolist() == [10.0, 11.25, 12.0, np.inf]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a busy machine takes minutes to start it all
def test_a_small_stream_is_learned_and_served(tmp_path: Path) -> None:
    """Events become examples, these are learned and served, and new users' clicks are seen, with figures of all."""
    sizes = ["--users", "500", "--items", "500", "--rate", "20", "--seconds", "20", "--warm", "20", "--requests", "5"]
    soon = [flag for key in ("action_window_s=5", "lateness_s=1", "gather_s=1") for flag in ("--set", f"stream.{key}")]
    command = [sys.executable, str(BENCH / "keep_up.py"), *sizes, *soon, "--save", str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(BENCH.parent)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (saved,) = tmp_path.glob("keep-up_*.json")
    (stage,) = json.loads(saved.read_text())["stages"]
    assert {name for name, each in stage["seconds"].items() if each["p50"] < 60} == {
        "fresh",
        "learnt",
        "served",
        "topk",
    }
    assert {each["process"] for each in stage["uses"]} == {"kafka", "worker", "server", "trainer", "events", "asking"}
    assert stage["taken_share"] > 0.5
