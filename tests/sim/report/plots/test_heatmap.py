"""Maps over grids of scenarios' settings."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sim.report.analysis.results import Results, read_results
from sim.report.plots.heatmap import axes_of, gap_maps
from tests.sim.report.report_folders import run, write


def grid(folder: Path, cells: Iterable[dict[str, Any]]) -> Results:
    """Read a folder with silu and softmax on a scenario for each of these overrides."""
    runs = []
    for place, overrides in enumerate(cells):
        for name, hr10 in (("silu", 0.2), ("softmax", 0.1)):
            digests = {"world": f"digest of s{place}", "source": "digest of the code"}
            settings = json.dumps({"overrides": overrides, "seed": 0, "model": {"attention": name}} | digests)
            runs.append(run(f"s{place}", name, 0, hr10, settings=settings))
    return read_results(write(folder, runs))


def test_a_grid_of_scenarios_becomes_maps(tmp_path: Path) -> None:
    """Growth by alpha, a map for each number of records; missing cells do not matter."""
    cells = [{"growth": g, "alpha": a, "records": r} for g in (0.1, 0.2) for a in (50, 500) for r in (10, 20)][:-1]
    results = grid(tmp_path, cells)
    axes, found = axes_of(results)
    assert [(axis.title, axis.values) for axis in axes] == [
        ("growth", (0.1, 0.2)),
        ("alpha", (50, 500)),
        ("records", (10, 20)),
    ]
    assert found[(0.1, 500, 10)] == "s2"
    maps = gap_maps(results)
    assert [plot.name for plot in maps] == ["map-silu-records-10", "map-silu-records-20"]
    assert maps[0].svg.count("· +100.0 %") == 4
    assert maps[1].svg.count("· +100.0 %") == 3


def test_every_setting_that_varies_has_its_sheets(tmp_path: Path) -> None:
    """With four settings there is a map for each pair of values of the last two, under its own name."""
    pairs = [(r, z) for r in (10, 20) for z in (0.0, 1.0)]
    cells = [{"initial": i, "alpha": a, "records": r, "zipf": z} for r, z in pairs for i in (0.1, 1) for a in (5, 50)]
    names = [plot.name for plot in gap_maps(grid(tmp_path, cells))]
    assert names == [f"map-silu-records-{r}-zipf-{z:g}" for r, z in pairs]


def test_scenarios_that_differ_in_more_are_left_out(tmp_path: Path) -> None:
    """A map shows only scenarios that agree in everything but the axes; a recorded log is left out."""
    cells: list[dict[str, Any]] = [{"growth": g, "alpha": a} for g in (0.1, 0.2) for a in (50, 500)]
    results = grid(tmp_path, [*cells, {"growth": 0.1, "alpha": 50, "bots": 3}, {"log": "movielens"}])
    axes, found = axes_of(results)
    assert [axis.title for axis in axes] == ["growth", "alpha"]
    assert sorted(found.values()) == ["s0", "s1", "s2", "s3"]
    assert [plot.name for plot in gap_maps(results)] == ["map-silu"]


def test_without_a_grid_there_is_no_map(tmp_path: Path) -> None:
    """One setting that varies, or none, or no settings at all."""
    assert axes_of(grid(tmp_path / "1", [{"growth": 0.1}, {"growth": 0.2}])) == ((), {})
    assert axes_of(grid(tmp_path / "2", [{"growth": 0.1}])) == ((), {})
    assert axes_of(read_results(write(tmp_path / "3", [run("a", "silu", 0, 0.1, settings=None)]))) == ((), {})
