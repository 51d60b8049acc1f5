"""Folders that are complete, unfinished, or contradictory."""

from pathlib import Path

import polars as pl
import pytest

from sim.errors import SimError
from sim.report.analysis.results import CURVES, MOMENTS, RUNS, read_results
from tests.sim.report.report_folders import ABOUT, curve, moment, pair, run, write


def test_a_whole_folder_misses_nothing(tmp_path: Path) -> None:
    """Every frame has exactly the promised columns, and no sentence complains."""
    runs = pair()
    results = read_results(write(tmp_path, runs, [curve(row["run"], [0.1]) for row in runs], [moment("a", 0, 0.5)]))
    assert results.missing == ()
    assert dict(results.runs.schema) == dict(RUNS)
    assert dict(results.curves.schema) == dict(CURVES)
    assert dict(results.moments.schema) == dict(MOMENTS)
    assert results.about == ABOUT


def test_a_repeated_run_counts_once(tmp_path: Path) -> None:
    """The last run of an identity counts, and the repeat is reported."""
    results = read_results(write(tmp_path, [run("a", "silu", 0, 0.1), run("a", "silu", 0, 0.3)]))
    assert results.runs["hr10"].to_list() == [0.3]
    assert any("1 rows of runs.parquet repeat a run" in text for text in results.missing)


def test_times_of_scoring_make_scenarios_of_their_own(tmp_path: Path) -> None:
    """Label and request are not mixed; the moments of the scenario belong to both."""
    runs = [run("a", "silu", 0, hr10, score_at=at) for at, hr10 in (("label", 0.1), ("request", 0.2))]
    results = read_results(write(tmp_path, runs, moments=[moment("a", 0, 0.5)]))
    assert results.scenarios == ["a, scored at label", "a, scored at request"]
    assert results.moments["scenario"].to_list() == results.scenarios
    assert results.scenario_title(results.scenarios[1]) == "Scenario a, scored at request"


def test_equal_titles_are_told_apart(tmp_path: Path) -> None:
    """Two scenarios with one title get their names appended."""
    results = read_results(write(tmp_path, [run(name, "silu", 0, 0.1, scenario_title="same") for name in "ab"]))
    assert [results.scenario_title(name) for name in "ab"] == ["same (a)", "same (b)"]


def test_absent_columns_are_nulls_and_needed_ones_an_error(tmp_path: Path) -> None:
    """A runs.parquet with few columns is read; the error names the necessary columns that are absent."""
    slim = pl.DataFrame({"run": ["r"], "scenario": ["a"], "contestant": ["silu"], "seed": [0], "hr10": [0.5]})
    slim.write_parquet(tmp_path / "runs.parquet")
    results = read_results(tmp_path)
    assert results.runs.row(0, named=True)["frozen_mrr"] is None
    assert (results.title("silu"), results.scenario_title("a")) == ("silu", "a")
    slim.drop("hr10", "seed").write_parquet(tmp_path / "runs.parquet")
    with pytest.raises(SimError, match=r"runs\.parquet lacks the columns seed, hr10"):
        read_results(tmp_path)


def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """No runs.parquet, a truncated one, an about.json that is no JSON."""
    with pytest.raises(SimError, match=r"holds no runs\.parquet: give the output folder"):
        read_results(tmp_path)
    (tmp_path / "runs.parquet").write_bytes(b"torn")
    with pytest.raises(SimError, match=r"no readable Parquet file"):
        read_results(tmp_path)
    write(tmp_path, pair())
    (tmp_path / "about.json").write_text("{")
    with pytest.raises(SimError, match=r"about\.json is no JSON"):
        read_results(tmp_path)


def test_an_oracle_belongs_to_both_times_of_scoring_and_is_called_by_its_title(tmp_path: Path) -> None:
    """Its figures do not depend on score_at; its name in plots is the first word of its title."""
    runs = [run("a", "silu", 0, hr10, score_at=at) for at, hr10 in (("label", 0.1), ("request", 0.2))]
    runs += [run("a", "oracle", 0, 0.4, title="oracle: exact"), run("b", "oracle", 0, 0.4, title="Seer: knows tastes")]
    results = read_results(write(tmp_path, [*runs, run("b", "silu", 0, 0.1)]))
    assert results.runs.filter(pl.col("contestant") == "oracle")["scenario"].to_list() == [
        "a, scored at label",
        "b, scored at label",
        "a, scored at request",
        "b, scored at request",
    ]
    assert results.upper_bounds() == ["oracle", "seer"]
    assert results.label("oracle", "b, scored at label") == "seer"
    assert results.label("silu", "b, scored at label") == "silu"
    assert results.title("oracle", "b, scored at request") == "Seer: knows tastes"
