"""What a comparison writes: tables of the runs that have ended, and how it was made."""

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sim.compare.jobs import result_path
from sim.compare.output_tables import make_folder, write_about, write_tables
from sim.compare.plan import Plan
from sim.errors import SimError
from sim.experiment.run import RunSpec
from sim.report.analysis.results import CURVES, MOMENTS, RUNS
from tests.sim.compare.commands import WORLD


@pytest.fixture
def specs(tmp_path: Path) -> list[RunSpec]:
    """Two seeds of two contestants, and of the upper bound."""
    (tmp_path / "small.toml").write_text(WORLD)
    plan = Plan(scenarios=(str(tmp_path / "small.toml"),), contestants=("popularity", "markov"), seeds=2)
    return plan.specs()


def end(out: Path, spec: RunSpec, **result: Any) -> None:
    path = result_path(out, spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"contestant": spec.contestant, "seed": spec.seed, "hr10": 0.5, "curves": [{"bucket": 3, "hr10": 2.0}]}
    path.write_text(json.dumps(found | result))


def test_only_runs_that_have_ended_are_in_the_tables(tmp_path: Path, specs: list[RunSpec]) -> None:
    """All columns are there, null where a result has no such figure; an unknown figure is left out."""
    out, ended = tmp_path / "out", [spec for spec in specs if spec.contestant == "markov"]
    for spec in ended:
        end(out, spec, unheard_of=1)
    assert write_tables(out, specs) == 2
    runs, curves = pl.read_parquet(out / "runs.parquet"), pl.read_parquet(out / "curves.parquet")
    assert runs["run"].to_list() == curves["run"].to_list() == [spec.id for spec in ended]
    assert dict(runs.schema) == dict(RUNS)
    assert dict(curves.schema) == dict(CURVES)
    assert set(runs["scenario_title"]) == {"A small world"}
    assert runs["mrr"].to_list() == [None, None]
    assert not list(out.glob("*.part"))


def test_a_streams_moments_are_written_once_a_seed(tmp_path: Path, specs: list[RunSpec]) -> None:
    """However many contestants ran on it; the shock comes halfway."""
    out = tmp_path / "out"
    for spec in specs:
        end(out, spec)
    assert write_tables(out, specs) == len(specs) == 6
    moments = pl.read_parquet(out / "moments.parquet")
    assert dict(moments.schema) == dict(MOMENTS)
    assert moments.select("seed", "name").rows() == [(0, "shock 1"), (1, "shock 1")]
    assert moments["share"].to_list() == pytest.approx([0.5, 0.5])


def test_without_results_the_tables_are_empty(tmp_path: Path, specs: list[RunSpec]) -> None:
    """A report then says what is missing, and need not guess columns."""
    assert write_tables(tmp_path, specs) == 0
    for name, schema in (("runs", RUNS), ("curves", CURVES), ("moments", MOMENTS)):
        table = pl.read_parquet(tmp_path / f"{name}.parquet")
        assert (table.height, dict(table.schema)) == (0, dict(schema))


def test_a_comparison_that_goes_on_keeps_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It began when its first command did; it has an end only once it has finished."""
    monkeypatch.setattr(sys, "argv", ["/bin/hstu", "compare", "--preset", "paper"])
    write_about(tmp_path, "paper", 6, 0.0, finished=False)
    first = json.loads((tmp_path / "about.json").read_text())
    assert (first["started"], first["finished"], first["planned"]) == ("1970-01-01 00:00:00 UTC", "", 6)
    assert first["command"] == "hstu compare --preset paper"
    write_about(tmp_path, "paper", 6, 86_400.0, finished=True)
    second = json.loads((tmp_path / "about.json").read_text())
    assert second["started"] == first["started"] < second["finished"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, specs: list[RunSpec]) -> None:
    """Whatever it holds; what a comparison has written goes on, with its about.json or with a result."""
    out = tmp_path / "out"
    for foreign in ("runs.parquet", "about.json", ".hidden"):
        out.mkdir()
        (out / foreign).write_text('{"started": "by another program"}')
        with pytest.raises(SimError, match=f"out holds {foreign}, and no comparison.* new folder as --out"):
            make_folder(out, specs)
        (out / foreign).rename(tmp_path / foreign)
        out.rmdir()
    write_about(tmp_path, "", 4, 0.0, finished=False)
    make_folder(tmp_path, specs)
    end(out, specs[0])
    (out / "about.json").write_text("{")
    make_folder(out, specs)
    write_about(out, "", 4, 0.0, finished=False)
    assert json.loads((out / "about.json").read_text())["planned"] == 4


def test_a_file_is_no_folder_of_results(tmp_path: Path, specs: list[RunSpec]) -> None:
    """Said in one sentence."""
    (tmp_path / "out").write_text("")
    with pytest.raises(SimError, match=r"out cannot be the folder of results.* another --out"):
        make_folder(tmp_path / "out", specs)
