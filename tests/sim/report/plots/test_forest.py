"""Forest plots: sheets, and gaps at equal settings."""

from pathlib import Path

from sim.report.analysis.results import read_results
from sim.report.plots.forest import gap_forest, variant_forest
from tests.sim.report.report_folders import run, write


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
