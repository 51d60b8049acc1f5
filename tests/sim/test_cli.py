"""`hstu replay`: its flags, what it prints, and how it refuses."""

from pathlib import Path

import pytest

from tests.sim.replay.commands import hstu


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
