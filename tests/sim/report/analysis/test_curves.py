"""Curves over the stream, by age, and recovery times of curves with known shape."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, strategies as st

from sim.report import recoveries
from sim.report.analysis.curves import by_age, over_stream, wilson
from sim.report.analysis.recovery import median, noise
from sim.report.analysis.results import Results, read_results
from sim.report.analysis.statistics import half_width
from sim.report.plots.lines import spaced
from tests.sim.report.report_folders import curve, moment, run, write


def one(tmp_path: Path, *curves: pl.DataFrame, moments: list[dict[str, object]] | None = None) -> Results:
    """Read a folder with silu alone: a seed for each of the curves, whose run ids are a-silu--0, a-silu--1, ..."""
    runs = [run("a", "silu", seed, 0.1) for seed in range(len({curve["run"][0] for curve in curves}))]
    return read_results(write(tmp_path, runs, list(curves), moments))


def shocked(down: int, level: float = 0.1, *, at: int = 60) -> list[float]:
    """HR@10 of 0.2 that falls to `level` for `down` hundredths from `at` on."""
    return [0.2] * at + [level] * down + [0.2] * (100 - at - down)


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


def test_recovery_is_the_first_hundredth_that_opens_three_good_ones(tmp_path: Path) -> None:
    """Down for 12 hundredths from 60 % on: back at 72 %, 12 hundredths and 12 of their times later."""
    row = recoveries_of(tmp_path, shocked(12), 0.6)
    assert (row["before"], row["lowest"], row["recovered"]) == (pytest.approx(0.2), pytest.approx(0.1), True)
    assert row["hundredths"] == pytest.approx(12)
    assert row["event_ms"] == pytest.approx(12 * 1000)


def test_a_moment_within_a_hundredth_leaves_that_one_out(tmp_path: Path) -> None:
    """At 60.4 % the torn hundredth is neither before nor after; times count from the moment itself."""
    row = recoveries_of(tmp_path, shocked(12), 0.604)
    assert row["hundredths"] == pytest.approx(11.6)
    assert row["event_ms"] == pytest.approx(11.6 * 1000)


def test_no_loss_and_no_recovery(tmp_path: Path) -> None:
    """96 % of before is no loss: 0 hundredths. What stays below until the end has no time. Nothing before: no row."""
    unhurt = recoveries_of(tmp_path / "1", shocked(40, 0.192), 0.6)
    assert (unhurt["hundredths"], unhurt["recovered"]) == (pytest.approx(0), True)
    lost = recoveries_of(tmp_path / "2", shocked(40), 0.6)
    assert (lost["recovered"], lost["hundredths"], lost["event_ms"]) == (False, None, None)
    assert lost["lowest"] == pytest.approx(0.1)
    write(tmp_path / "3", [run("a", "silu", 0, 0.1)], [curve("a-silu--0", [0.2] * 100)], [moment("a", 0, 0.0)])
    assert recoveries(tmp_path / "3").is_empty()


def recoveries_of(folder: Path, rates: list[float], share: float) -> dict[str, object]:
    write(folder, [run("a", "silu", 0, 0.1)], [curve("a-silu--0", rates)], [moment("a", 0, share)])
    return recoveries(folder).row(0, named=True)


def test_each_seed_has_its_own_moments(tmp_path: Path) -> None:
    """A moment of seed 1 says nothing of seed 0; one without a seed holds for all."""
    curves = [curve("a-silu--0", shocked(5)), curve("a-silu--1", shocked(7, at=50))]
    moments = [moment("a", 0, 0.6), moment("a", 1, 0.5), moment("a", None, 0.2, "calm"), moment("b", 0, 0.2)]
    table = recoveries(write(tmp_path, [run("a", "silu", seed, 0.1) for seed in range(2)], curves, moments))
    found = {(row["moment"], row["seed"]): row["hundredths"] for row in table.iter_rows(named=True)}
    assert found == {
        ("shock", 0): pytest.approx(5),
        ("shock", 1): pytest.approx(7),
        ("calm", 0): pytest.approx(0),
        ("calm", 1): pytest.approx(0),
    }


def test_chance_is_the_error_of_three_hundredths(tmp_path: Path) -> None:
    """300 targets at 0.25: sqrt(0.75 / 0.25 / 300) = 10 %."""
    assert noise(one(tmp_path, curve("a-silu--0", [0.25] * 100)), "a") == pytest.approx((300, 0.1))


def test_a_median_counts_what_never_came_as_last() -> None:
    """None is endless, and a median that falls on it is None."""
    assert median([1, None, 3]) == 3
    assert median([1, 2, 3, None]) == 2.5
    assert median([1, None]) is None
    assert median([None]) is None


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.3))
def test_names_beside_lines_never_overlap_and_stay_put_where_they_can(values: list[float], gap: float) -> None:
    """Neighbours are `gap` apart, none is below the least, the order stays; what is apart already does not move."""
    values = sorted(values)
    places = spaced(values, gap, 0.0)
    assert len(places) == len(values)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(places))
    assert all(place >= -1e-9 for place in places)
    if all(b - a >= gap for a, b in pairwise(values)):
        assert places == pytest.approx(values)


def test_curves_of_an_oracle_have_neither_ages_nor_times(tmp_path: Path) -> None:
    """They are drawn over the stream and recover in hundredths; by age and in event time there is nothing to show."""
    untimed = curve("a-oracle--0", shocked(5), age="all").with_columns(time_ms=pl.lit(None, pl.Int64))
    folder = write(tmp_path, [run("a", "oracle", 0, 0.2)], [untimed], [moment("a", 0, 0.6)])
    results = read_results(folder)
    assert over_stream(results, "a")[0].height == 10
    assert by_age(results, "a").is_empty()
    row = recoveries(folder).row(0, named=True)
    assert (row["hundredths"], row["event_ms"]) == (pytest.approx(5), None)
