"""Grids found in settings: of scenarios for maps, of variants for lines, and tables of who has which value."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sim.report import write_report
from sim.report.analysis.results import Results, read_results
from sim.report.analysis.settings import leaves, varied
from sim.report.plots.forest import gap_forest, variant_forest
from sim.report.plots.heatmap import axes_of, gap_maps
from sim.report.plots.style import looks
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
    """growth by alpha, a sheet for each number of records, cells that are missing included."""
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
    """With four settings there is a map for each pair of values of the last two; none covers another."""
    pairs = [(r, z) for r in (10, 20) for z in (0.0, 1.0)]
    cells = [{"initial": i, "alpha": a, "records": r, "zipf": z} for r, z in pairs for i in (0.1, 1) for a in (5, 50)]
    names = [plot.name for plot in gap_maps(grid(tmp_path, cells))]
    assert names == [f"map-silu-records-{r}-zipf-{z:g}" for r, z in pairs]


def test_scenarios_that_differ_in_more_are_left_out(tmp_path: Path) -> None:
    """Only scenarios that are alike in all but the axes share a map; a recorded log is none of them."""
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


def test_variants_are_laid_out_by_the_one_number_they_differ_in(tmp_path: Path) -> None:
    """The learning rate of each; a run that names none has the default; texts and two numbers are no axis."""
    runs = [run("a", "silu", 0, 0.1, variant) for variant in ("", "learning_rate=0.01")]
    found = varied(read_results(write(tmp_path, runs)), "a")
    assert found == ("learning rate", {("silu", ""): 0.003, ("silu", "learning_rate=0.01"): 0.01})
    runs = [run("b", "silu", 0, 0.1, name, settings=json.dumps({"bias": name})) for name in ("none", "bucketed")]
    assert varied(read_results(write(tmp_path, runs)), "b") is None
    assert varied(read_results(write(tmp_path, [run("c", "silu", 0, 0.1)])), "c") is None


def test_forests_split_before_they_are_too_high_and_share_a_scale(tmp_path: Path) -> None:
    """A hundred scenarios take several plots; each scenario is in one of them."""
    runs = [run(f"s{place}", name, 0, hr10) for place in range(100) for name, hr10 in (("silu", 0.2), ("softmax", 0.1))]
    plots = gap_forest(read_results(write(tmp_path, runs)), "all")
    assert [plot.name for plot in plots] == ["gaps-all", "gaps-all-2", "gaps-all-3", "gaps-all-4"]
    assert all(sum(f">Scenario s{place}<" in plot.svg for plot in plots) == 1 for place in range(100))
    assert gap_forest(read_results(tmp_path), "frozen") == []


def test_gaps_at_equal_settings_are_drawn_where_there_are_variants(tmp_path: Path) -> None:
    """silu and softmax with two learning rates make two lines."""
    rates = ("learning_rate=0.01", "learning_rate=0.02")
    runs = [run("a", name, 0, 0.1, rate) for name in ("silu", "softmax") for rate in rates]
    (plot,) = variant_forest(read_results(write(tmp_path, runs)))
    assert all(f">silu, {rate}<" in plot.svg for rate in rates)


def test_settings_say_what_is_shared_and_who_differs(tmp_path: Path) -> None:
    """One value for all is shared; else each value has its owners, by the fewest words."""
    runs = [
        run(
            scenario, name, seed, 0.1, settings=json.dumps({"dim": 64, "attention": name, "seed": seed, "at": scenario})
        )
        for scenario in "ab"
        for name in ("silu", "softmax")
        for seed in (3, 4)
    ]
    text = write_report(write(tmp_path, runs)).read_text()
    assert "silu <small>silu</small><br>softmax <small>softmax</small>" in text
    assert "3 <small>seed 3</small><br>4 <small>seed 4</small>" in text
    assert "a <small>a</small><br>b <small>b</small>" in text
    assert text.index("What differs") < text.index("The same in every run") < text.index("<code>dim</code>")
    assert leaves('{"a": {"b": [1]}, "c": {}}') == {"a.b": [1], "c": {}}
    assert leaves("no JSON") == {"settings": "no JSON"}


def test_looks_are_constant_and_distinct(tmp_path: Path) -> None:
    """A known name looks the same beside any others; no two share colour and marker; baselines are dashed and open."""
    few = looks(read_results(write(tmp_path / "1", [run("a", name, 0, 0.1) for name in ("silu", "markov")])).runs)
    names = ("silu", "softmax", "silu_seen", "transformer", "gru", "markov", "oracle", "new", "newer", "newest")
    many = looks(read_results(write(tmp_path / "2", [run("a", name, 0, 0.1) for name in names])).runs)
    assert few["silu"] == many["silu"]
    assert (few["markov"].colour, few["markov"].filled) == (many["markov"].colour, False)
    assert few["markov"].dash
    assert len({(look.colour, look.marker) for look in many.values()}) == len(names)
    assert len({look.colour for look in many.values()}) == len(names)
