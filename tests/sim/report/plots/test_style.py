"""Looks of contestants."""

from pathlib import Path

from sim.report.analysis.results import read_results
from sim.report.plots.style import looks
from tests.sim.report.report_folders import run, write


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
