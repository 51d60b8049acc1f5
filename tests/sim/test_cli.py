"""`hstu replay`: its flags, what it prints, and how it refuses."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest


def hstu(folder: Path, flags: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from sim.main import main; main()", "replay", *flags]
    small = {
        "COLUMNS": "160",
        "HSTU_MODEL__DIM": "8",
        "HSTU_MODEL__LAYERS": "1",
        "HSTU_MODEL__HEADS": "1",
        "HSTU_DATA_DIR": str(folder),
    }
    return subprocess.run(command, env=os.environ | small, text=True, capture_output=True, check=False)


def test_the_command_prints_the_figures_and_writes_the_metrics(tmp_path: Path) -> None:
    """The run is named after its attention; the last tables show the baselines and the digests."""
    log = tmp_path / "log.csv"
    log.write_text("who,what,when\n" + "\n".join(f"{n % 7},{n % 5},{1000 + 60 * n}" for n in range(300)))
    columns = (str(log), "--user", "who", "--item", "what", "--time", "when", "--direct")
    done = hstu(tmp_path, [*columns, "--attention", "softmax", "--metrics", str(tmp_path / "m.jsonl")])
    assert done.returncode == 0, done.stderr
    assert "300 events of 7 users on 5 items, from 1970-01-01" in done.stderr
    assert "times are integer seconds" in done.stderr
    for word in ("popularity", "hr@10", "sequences", "examples", "model"):
        assert word in done.stdout.lower()
    assert (tmp_path / "train" / "softmax").exists()
    assert (tmp_path / "m.jsonl").read_text().startswith("{")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--direct"], "a LOG file, --dataset movielens, --scenario NAME, or --synthetic dirichlet."),
        (["a.csv", "--synthetic", "dirichlet"], "; 2 are given."),
        (["--synthetic", "poisson"], "no synthetic stream 'poisson'; known are dirichlet"),
        (["--dataset", "movielens", "--user", "u"], "--user belongs to a LOG file; remove it here"),
        (["--synthetic", "dirichlet", "--rating", "r"], "--rating belongs to a recorded log"),
        (["a.csv", "--records", "5"], "--records belongs to --synthetic dirichlet"),
        (["a.csv", "--direct", "--speed", "5/s"], "--direct always runs at full speed; remove --speed"),
        (["a.csv", "--speed", "0"], "--speed 0 is no speed"),
        (["a.csv", "--attention", "silu"], "belong to --direct"),
        (["a.csv", "--direct", "--attention", "linear"], "'silu', 'silu_seen' or 'softmax'"),
        (["a.csv", "--rating-as", "view"], "--rating-as view"),
        (["--synthetic", "dirichlet", "--name", "a/b"], "--name a/b cannot name a file"),
        (["--synthetic", "dirichlet"], "No Kafka is named; give --bootstrap"),
        (["a.csv"], "There is no file a.csv; check the path"),
    ],
)
def test_flags_that_make_no_sense_are_refused(tmp_path: Path, flags: list[str], sentence: str) -> None:
    """One sentence, exit code 1, and nothing is made."""
    done = hstu(tmp_path, flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


def test_help_states_the_defaults(tmp_path: Path) -> None:
    """Defaults that are described rather than set are shown as well."""
    said = hstu(tmp_path, ["--help"]).stdout
    for default in (
        "user_id",
        "item_id",
        "ts",
        "action",
        "none, all are the action `rate`",
        "max",
        "continue",
        "create-topics",
    ):
        assert f"[default: {default}]" in said or f"[default: ({default})]" in said
