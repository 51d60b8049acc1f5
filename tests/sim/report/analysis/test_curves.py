"""Curves over the stream and by item age."""

from pathlib import Path

import polars as pl
import pytest

from sim.report import recoveries
from sim.report.analysis.curves import by_age, over_stream, wilson
from sim.report.analysis.results import read_results
from sim.report.analysis.statistics import half_width
from tests.sim.report.report_folders import curve, moment, one, run, shocked, write


def test_points_pool_hundredths_until_they_hold_a_thousand_targets(tmp_path: Path) -> None:
    """100 targets a hundredth: ten are pooled, hits over targets; the band spans the seeds."""
    results = one(tmp_path, curve("a-silu--0", [0.1, 0.3] * 50), curve("a-silu--1", [0.3] * 100))
    points, size = over_stream(results, "a")
    assert (size, points.height) == (10, 10)
    assert points["share"].to_list() == pytest.approx([0.05 + 0.1 * i for i in range(10)])
    first = points.row(0, named=True)
    assert (first["hr10"], first["low"], first["high"]) == (pytest.approx(0.25), pytest.approx(0.2), pytest.approx(0.3))
    assert (first["targets"], first["seeds"]) == (1000, 2)
    many = one(tmp_path / "many", curve("a-silu--0", [0.1] * 100, targets=5000))
    assert [over_stream(many, "a", most)[1] for most in (100, 50, 20)] == [1, 2, 5]


def test_one_seed_gets_wilsons_interval(tmp_path: Path) -> None:
    """The band of a single run is the interval of its hits: 100 of 1,000 lie in 8.3 % to 12.0 %."""
    point = over_stream(one(tmp_path, curve("a-silu--0", [0.1] * 100)), "a")[0].row(0, named=True)
    assert (point["low"], point["high"]) == pytest.approx(wilson(100, 1000))
    assert wilson(100, 1000) == pytest.approx((0.08291, 0.12016), abs=1e-4)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_ages_pool_the_stream_and_leave_out_what_is_too_few_or_impossible(tmp_path: Path) -> None:
    """Rates of a slice are over its own targets; unseen without a hit and slices below 50 targets are not shown."""
    parts = []
    for seed, rate in enumerate((0.2, 0.4)):
        name = f"a-silu--{seed}"
        parts += [
            curve(name, [rate] * 10, targets=60, age="old"),
            curve(name, [rate / 2] * 10, targets=30, age="<1h"),
            curve(name, [0.0] * 10, targets=10, age="unseen"),
            curve(name, [1.0], targets=49, age="<1d"),
        ]
    table = by_age(one(tmp_path, *parts), "a")
    assert table["age"].to_list() == ["<1h", "old"]
    assert table["hr10"].to_list() == pytest.approx([0.15, 0.3])
    half = half_width([0.2, 0.4])
    assert table["high"][1] == pytest.approx(0.3 + half)
    assert table["share"].to_list() == pytest.approx([300 / 1049, 600 / 1049])


def test_curves_of_an_oracle_have_neither_ages_nor_times(tmp_path: Path) -> None:
    """They have points over the stream and recovery in hundredths, but nothing by age or in event time."""
    untimed = curve("a-oracle--0", shocked(5), age="all").with_columns(time_ms=pl.lit(None, pl.Int64))
    folder = write(tmp_path, [run("a", "oracle", 0, 0.2)], [untimed], [moment("a", 0, 0.6)])
    results = read_results(folder)
    assert over_stream(results, "a")[0].height == 10
    assert by_age(results, "a").is_empty()
    row = recoveries(folder).row(0, named=True)
    assert (row["hundredths"], row["event_ms"]) == (pytest.approx(5), None)
