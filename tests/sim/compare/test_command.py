"""`hstu compare` to its end: a folder of results, tables on the terminal, and a report."""

import json
import tomllib
from pathlib import Path

import polars as pl
import pytest

from tests.sim.compare.commands import WORLD, compare, run


def test_a_comparison_from_file_to_report(tmp_path: Path) -> None:
    """Two seeds of three contestants and the upper bound: all in the tables, on equal examples; nothing runs twice."""
    done = run(tmp_path, "--seeds", "2", "--jobs", "2", "--events", "300")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    runs = pl.read_parquet(out / "runs.parquet")
    assert runs.group_by("contestant").len().sort("contestant").rows() == [
        (name, 2) for name in ("oracle", "popularity", "silu", "softmax")
    ]
    learnt = runs.filter(pl.col("kind") != "oracle")
    assert learnt.group_by("seed").agg(pl.col("examples_digest").n_unique())["examples_digest"].to_list() == [1, 1]
    assert (learnt["targets"] == 300).all()
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
    again = run(tmp_path, "--seeds", "2", "--jobs", "2", "--events", "300")
    assert "8 runs, 0 of them to do" in again.stderr
    assert pl.read_parquet(out / "runs.parquet").equals(runs)


@pytest.mark.slow
def test_a_run_that_diverges_does_not_end_the_others(tmp_path: Path) -> None:
    """Each has a line with its settings and its reason, the report has the others, and the exit code is 1."""
    done = run(tmp_path, "--vary", "learning_rate=1e-3,1e30", "--jobs", "1")
    assert done.returncode == 1
    assert "2 of the runs failed, and are not in the report:\n" in done.stderr
    for contestant in ("silu", "softmax"):
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(contestant)]
        assert f"{contestant} learning_rate=1e+30 on {tmp_path / 'small.toml'}, seed 0: At step" in line
        assert "training has diverged" in line
    runs = pl.read_parquet(tmp_path / "out" / "runs.parquet")
    assert sorted(runs["contestant"]) == ["oracle", "popularity", "silu", "softmax"]
    assert "2 of 6 planned runs have not ended" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_what_the_oracle_cannot_know_does_not_end_the_others(tmp_path: Path) -> None:
    """Records of 600 events are too long for the oracle; the contestants run all the same, and the error says why."""
    out = ("--out", str(tmp_path / "out"))
    options = (
        "--scenario",
        "paper",
        "--contestant",
        "popularity",
        "--records",
        "20",
        "--vary",
        "length=600",
        "--jobs",
        "1",
    )
    done = compare(*options, *out, "--jobs", "1")
    assert done.returncode == 1
    assert "oracle on paper, seed 0: " in done.stderr
    assert pl.read_parquet(tmp_path / "out" / "runs.parquet")["contestant"].to_list() == ["popularity"]


@pytest.mark.slow
def test_the_folder_may_be_called_like_the_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--scenario shock --out shock` works, and so does the same command again, with the folder beside it."""
    chosen = ("--scenario", "shock", "--events", "200", "--contestant", "popularity", "--out", "shock", "--jobs", "1")
    monkeypatch.chdir(tmp_path)
    for left in ("2 runs, 2 of them to do", "2 runs, 0 of them to do"):
        done = compare(*chosen)
        assert done.returncode == 0, done.stderr
        assert left in done.stderr
    assert (tmp_path / "shock" / "report.html").exists()


def test_a_log_of_one_s_own_ends_with_the_settings_to_choose(tmp_path: Path) -> None:
    """Its columns by flags, the price before it runs, TOML for hstu.toml at its end; then nothing runs twice."""
    rows = [f"u{n % 7},i{n * n % 47},{1_700_000_000 + 60 * n}" for n in range(500)]
    (tmp_path / "own.csv").write_text("\n".join(["who,what,ts", *rows]) + "\n")
    named = (
        str(tmp_path / "own.csv"),
        "--user",
        "who",
        "--item",
        "what",
        "--contestant",
        "gru",
        "--contestant",
        "stack",
    )
    arguments = [*named, "--jobs", "1", "--out", str(tmp_path / "out")]
    done = compare(*arguments)
    assert done.returncode == 0, done.stderr
    assert "500 events of 7 users on 24 items" in done.stderr
    assert "This will take about" in done.stderr
    assert "recommends best in the last 50 %" in done.stdout
    settings = tomllib.loads(done.stdout[done.stdout.index("[stream]") :])
    assert settings["model"]["encoder"] == "gru"
    assert settings["stream"] == {"example_tokens": 16}
    again = compare(*arguments)
    assert "2 runs, 0 of them to do" in again.stderr


@pytest.mark.slow
def test_a_log_that_proves_nothing_gets_no_recommendation(tmp_path: Path) -> None:
    """20 rows on 5 items: everybody finds them all, which the console and the report say, without settings."""
    rows = [f"u{n % 4},i{n % 5},{1_700_000_000 + 60 * n}" for n in range(20)]
    (tmp_path / "own.csv").write_text("\n".join(["who,what,ts", *rows]) + "\n")
    named = (
        str(tmp_path / "own.csv"),
        "--user",
        "who",
        "--item",
        "what",
        "--contestant",
        "gru",
        "--contestant",
        "stack",
    )
    arguments = [*named, "--jobs", "1", "--out", str(tmp_path / "out")]
    done = compare(*arguments)
    assert done.returncode == 0, done.stderr
    assert "Nothing is recommended: HR@10 shows ten of 5 items" in done.stdout
    assert "recommends best" not in done.stdout
    assert "hstu.toml" not in done.stdout
    assert "Nothing is recommended" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_every_variant_is_in_the_tables(tmp_path: Path) -> None:
    """Of each contestant, in the order of HR@10; the best says of how many."""
    (tmp_path / "small.toml").write_text(WORLD)
    chosen = ("--scenario", str(tmp_path / "small.toml"), "--contestant", "popularity", "--events", "600")
    varied = ("--vary", "popularity_half_life_d=0.01,7,30", "--jobs", "1", "--out", str(tmp_path / "out"))
    done = compare(*chosen, *varied)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best of") == 1  # by the whole stream; another may be ahead in its last part
    whole = done.stdout.split(", late")[0]
    lines = [line.strip() for line in whole.splitlines() if line.strip().startswith("popularity ")]
    assert {line.split()[1].strip(",") for line in lines} == {
        f"popularity_half_life_d={days}" for days in (0.01, 7, 30)
    }
    assert [", best of 3 variants" in line for line in lines] == [True, False, False]
