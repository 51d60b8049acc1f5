"""Recovery of curves with known shape."""

from pathlib import Path

import pytest

from sim.report import recoveries
from sim.report.analysis.recovery import median, noise
from tests.sim.report.report_folders import curve, moment, one, run, shocked, write


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
    """A moment belongs to its seed; one without a seed belongs to all."""
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
    """None counts as infinite; an infinite median is None."""
    assert median([1, None, 3]) == 3
    assert median([1, 2, 3, None]) == 2.5
    assert median([1, None]) is None
    assert median([None]) is None
