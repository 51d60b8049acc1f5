"""Means, gaps and fractions of known figures."""

import math
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from sim.report import costs, gaps, regrets, summary, write_report
from sim.report.analysis.results import read_results
from sim.report.analysis.statistics import critical, gaps as gaps_of, half_width
from sim.report.analysis.text import answer, verdict
from tests.sim.report.report_folders import curve, run, write

T2 = critical(2)


def of(table: pl.DataFrame, contestant: str, protocol: str = "all", metric: str | None = None) -> dict[str, object]:
    found = table.filter(pl.col("contestant") == contestant, pl.col("protocol") == protocol)
    return (found if metric is None else found.filter(pl.col("metric") == metric)).row(0, named=True)


def three_seeds(silu: list[float], softmax: list[float]) -> list[dict[str, object]]:
    figures = {"silu": silu, "softmax": softmax}
    return [run("a", name, seed, hr10) for name, hr10s in figures.items() for seed, hr10 in enumerate(hr10s)]


def test_a_mean_weighs_every_seed_alike_and_has_its_interval(tmp_path: Path) -> None:
    """Mean 0.2 of 0.1, 0.2, 0.3 whatever their targets, half t(2) * 0.1 / sqrt(3); the best comes first."""
    runs = [run("a", "silu", seed, hr10, targets=10**seed) for seed, hr10 in enumerate((0.1, 0.2, 0.3))]
    table = summary(write(tmp_path, [run("a", "softmax", 0, 0.15), *runs]))
    silu = of(table, "silu")
    assert silu["hr10"] == pytest.approx(0.2)
    assert silu["hr10_half"] == pytest.approx(T2 * 0.1 / math.sqrt(3))
    assert (silu["seeds"], silu["targets"], silu["hr50"]) == (3, pytest.approx(37), pytest.approx(0.4))
    assert table.filter(pl.col("protocol") == "all")["contestant"].to_list() == ["silu", "softmax"]


def test_one_seed_has_no_interval_and_what_was_not_measured_is_null(tmp_path: Path) -> None:
    """Half widths are null; a protocol that no run has is no row; NaN counts as not measured."""
    folder = write(tmp_path, [run("a", "silu", 0, 0.2, mrr=math.nan), run("a", "softmax", 0, 0.1)])
    silu = of(summary(folder), "silu")
    assert (silu["hr10_half"], silu["mrr"], silu["mrr_half"], silu["of_oracle"]) == (None, None, None, None)
    assert set(summary(folder)["protocol"]) == {"all", "late"}
    gap = of(gaps(folder), "silu", metric="hr10")
    assert (gap["half"], gap["low"], gap["relative_high"], gap["verdict"]) == (None, None, None, "one seed")
    assert gap["gap"] == pytest.approx(0.1)


def test_gaps_are_paired_by_seed(tmp_path: Path) -> None:
    """Seeds differ far more than contestants: differences 0.01, 0.02, 0.03 lead, and are per cent of softmax's mean."""
    gap = of(gaps(write(tmp_path, three_seeds([0.11, 0.42, 0.73], [0.10, 0.40, 0.70]))), "silu", metric="hr10")
    half = T2 * 0.01 / math.sqrt(3)
    assert gap["gap"] == pytest.approx(0.02)
    assert (gap["low"], gap["high"]) == (pytest.approx(0.02 - half), pytest.approx(0.02 + half))
    assert (gap["base"], gap["relative"]) == (pytest.approx(0.4), pytest.approx(0.05))
    assert gap["relative_low"] == pytest.approx((0.02 - half) / 0.4)
    assert gap["verdict"] == "open"  # t(2) = 4.3 makes 0.02 ± 0.0248 of it


def test_only_seeds_in_common_count(tmp_path: Path) -> None:
    """A seed that softmax lacks is in silu's mean and not in the gap."""
    runs = three_seeds([0.2, 0.3, 0.9], [0.1, 0.2, 0.0])[:-1]
    gap = of(gaps(write(tmp_path, runs)), "silu", metric="hr10")
    assert (gap["seeds"], gap["gap"], gap["base"]) == (2, pytest.approx(0.1), pytest.approx(0.15))


@pytest.mark.parametrize(
    ("silu", "expected", "words"),
    [
        ([0.20, 0.31, 0.40], "ahead", r"leads softmax by 0.1033 HR@10 \(\+51.7 %; 95 % interval .* excludes 0"),
        ([0.05, 0.15, 0.26], "behind", r"trails softmax by 0.0467 HR@10 \(−23.3 %; .* excludes 0"),
        ([0.11, 0.19, 0.31], "open", r"no difference from softmax that these 3 seeds can tell"),
        ([0.10, 0.20, 0.30], "equal", r"equals softmax exactly on all 3 seeds"),
    ],
)
def test_verdicts_follow_from_intervals(tmp_path: Path, silu: list[float], expected: str, words: str) -> None:
    """Ahead or behind only where the interval excludes 0; the sentence says so with its numbers."""
    folder = write(tmp_path, three_seeds(silu, [0.1, 0.2, 0.3]))
    gap = of(gaps(folder), "silu", metric="hr10")
    assert gap["verdict"] == expected
    assert re.search(words, verdict(gap, "softmax"))
    assert re.fullmatch(
        rf"Scenario a: HSTU, SiLU .*{words.replace('softmax', 'HSTU, softmax')}.*", answer(read_results(folder))[0]
    )


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)), min_size=2, max_size=6))
@settings(deadline=None)  # files are written
def test_gaps_equal_those_by_hand(pairs: list[tuple[float, float]]) -> None:
    """Whatever the figures: mean and interval of the differences."""
    with TemporaryDirectory() as name:
        folder = write(Path(name), three_seeds([a for a, _ in pairs], [b for _, b in pairs]))
        gap = of(gaps(folder), "silu", metric="hr10")
    differences = [a - b for a, b in pairs]
    assert gap["gap"] == pytest.approx(math.fsum(differences) / len(pairs), abs=1e-12)
    assert gap["half"] == pytest.approx(half_width(differences), abs=1e-9)


def test_the_tuned_variant_stands_for_its_contestant(tmp_path: Path) -> None:
    """The best mean HR@10 wins among variants with the most seeds; gaps at equal settings are there too."""
    figures = {"learning_rate=0.1": (0.2, 0.2), "learning_rate=0.2": (0.1, 0.4), "learning_rate=0.3": (0.9,)}
    runs = [run("a", "silu", seed, hr10, name) for name, hr10s in figures.items() for seed, hr10 in enumerate(hr10s)]
    runs += [run("a", "softmax", seed, 0.1, variant) for variant in figures for seed in range(2)]
    results = read_results(write(tmp_path, runs))
    silu = of(summary(tmp_path), "silu")
    assert (silu["variant"], silu["variants"], silu["seeds"]) == ("learning_rate=0.2", 3, 2)
    assert silu["hr10"] == pytest.approx(0.25)
    same = gaps_of(results, same_variant=True).filter(pl.col("protocol") == "all", pl.col("metric") == "hr10")
    assert same.sort("variant")["gap"].to_list() == pytest.approx([0.1, 0.15, 0.8])
    assert (same["variant"] == same["against_variant"]).all()


def test_fractions_of_the_oracle_are_taken_seed_by_seed(tmp_path: Path) -> None:
    """0.1 of 0.2 and 0.3 of 0.4: a mean of 62.5 %; seeds without an oracle do not count; an oracle has no gap."""
    runs = [run("a", "softmax", seed, hr10) for seed, hr10 in enumerate((0.1, 0.3, 0.5))]
    runs += [run("a", "oracle", 0, 0.2), run("a", "oracle", 1, 0.4), run("b", "softmax", 0, 0.1)]
    runs.append(run("a", "seer", 0, 0.9, kind="oracle"))
    folder = write(tmp_path, runs)
    softmax = of(summary(folder), "softmax")
    assert softmax["of_oracle"] == pytest.approx(0.625)
    assert softmax["of_oracle_half"] == pytest.approx(half_width([0.5, 0.75]))
    assert summary(folder).filter(pl.col("scenario") == "b")["of_oracle"].to_list() == [None, None]
    assert gaps(folder).is_empty()


def test_without_softmax_there_is_no_gap_and_the_answer_says_so(tmp_path: Path) -> None:
    """Without softmax the frames are empty."""
    folder = write(tmp_path, [run("a", "silu", 0, 0.1), run("a", "softmax", 1, 0.1)])
    assert gaps(folder).is_empty()
    assert answer(read_results(folder)) == [
        "There is no pair of runs with softmax on one seed, so there is no gap to tell."
    ]


def test_costs_are_means_over_runs_of_tuned_variants(tmp_path: Path) -> None:
    """Seconds are averaged, parameters span their least and most, the oracle is left out."""
    runs = [run("a", "silu", seed, 0.2, train_s=10.0 * (seed + 1), parameters=100 + seed) for seed in range(2)]
    runs += [run("a", "silu", 0, 0.1, "learning_rate=1", train_s=1000.0), run("a", "oracle", 0, 0.5)]
    table = costs(write(tmp_path, runs))
    assert table["contestant"].to_list() == ["silu"]
    assert table.row(0, named=True)["train_s"] == 15
    assert table.select("parameters", "parameters_max", "runs").row(0) == (100, 101, 2)


def test_closed_loops_are_compared_by_regret(tmp_path: Path) -> None:
    """The least regret first, gaps by seed, the variant with the least regret; no word about hit rates."""
    runs = [
        run("loop", "silu", seed, None, "lr=1", regret=3.0 + seed, late_regret=2.0, score_at=None) for seed in (0, 1)
    ]
    runs += [
        run("loop", "silu", seed, None, "lr=2", regret=1.0 + seed, late_regret=0.5, score_at=None) for seed in (0, 1)
    ]
    runs += [run("loop", "softmax", seed, None, regret=1.25 + seed, late_regret=0.5, score_at=None) for seed in (0, 1)]
    runs += [run("loop", "policy", seed, None, regret=3.0, kind="baseline", score_at=None) for seed in (0, 1)]
    curves = [
        curve(row["run"], [0.1] * 100).with_columns(
            pl.lit(None, pl.Float64).alias("hr10"), pl.lit(50.0).alias("regret"), pl.lit("all").alias("age")
        )
        for row in runs
    ]
    folder = write(tmp_path, runs, curves)
    table = regrets(folder)
    assert table.filter(pl.col("variant") != "lr=1")["contestant"].to_list() == ["silu", "softmax", "policy"]
    silu = table.row(0, named=True)
    assert (silu["variant"], silu["regret"], silu["late_regret"], silu["gap"], silu["gap_half"]) == (
        *("lr=2", 1.5, 0.5, -0.25, 0),
    )
    assert silu["regret_half"] == pytest.approx(half_width([1.0, 2.0]))
    assert table.filter(contestant="softmax")["gap"].to_list() == [None]
    page = re.sub(r"<svg.*?</svg>", "", write_report(folder).read_text(), flags=re.DOTALL)
    assert "a closed loop: HSTU, SiLU regrets 1.5000 clicks a request, −0.2500 ± 0.0000 beside HSTU, softmax" in page
    assert "Regret a request over the stream" in page
    assert "3.5000 clicks a request" not in page  # the other variant's
    for absent in ("have no HR@10", "There is no pair", "Targets are scored", "HR@10 over the stream"):
        assert absent not in page


@pytest.mark.parametrize(
    ("df", "t"),
    [(1, 12.7062047364), (2, 4.30265272975), (4, 2.77644510520), (29, 2.04522964213), (100, 1.98397151845)],
)
def test_critical_values_are_those_of_the_tables(df: int, t: float) -> None:
    """Ten digits agree with published tables."""
    assert critical(df) == pytest.approx(t, rel=1e-10)


def test_half_width_needs_two_values() -> None:
    """Of 1, 2, 3 it is t(2) / sqrt(3); one value has none; equal ones have 0."""
    assert half_width([1, 2, 3]) == pytest.approx(critical(2) / math.sqrt(3))
    assert half_width([1]) is None
    assert half_width([]) is None
    assert half_width([0.5, 0.5]) == 0
