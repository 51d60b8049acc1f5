"""What is missing or contradictory in a comparison is said, once each."""

import math
from pathlib import Path

from sim.report.analysis.results import read_results
from tests.sim.report.report_folders import ABOUT, curve, pair, run, write


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """Files, the end, a planned run, a seed of a variant and a whole contestant of a scenario are named."""
    runs = [*pair(), *pair("b")[:3]]
    runs += [run("a", "silu", 0, 0.1, "lr=1")]
    results = read_results(write(tmp_path, runs, about=ABOUT | {"finished": None, "planned": 12}))
    told = "\n".join(results.missing)
    for words in (
        "curves.parquet is not there",
        "moments.parquet is not there",
        "has not finished",
        "4 of 12 planned runs have not ended",
        "silu has no run for a, lr=1, seed 1.",
        "softmax has no run for b seed 1.",
    ):
        assert words in told
    assert "about.json is not there" in "\n".join(read_results(write(tmp_path / "x", pair(), about=None)).missing)
    lone = read_results(write(tmp_path / "y", [*pair("a", 1), run("b", "silu", 0, 0.1)])).missing
    assert "softmax has no run for b (all seeds)." in lone


def test_an_oracle_is_expected_only_where_it_has_a_run(tmp_path: Path) -> None:
    """Recorded logs have no oracle; a scenario that has one misses it for a seed."""
    runs = [*pair("a"), *pair("b"), run("a", "oracle", 0, 0.5)]
    told = [text for text in read_results(write(tmp_path, runs)).missing if text.startswith("oracle")]
    assert told == ["oracle has no run for a seed 1."]


def test_runs_without_figures_or_curves_are_named(tmp_path: Path) -> None:
    """NaN counts as not measured; a run without curves is named where others have them."""
    runs = [run("a", "silu", 0, math.nan), run("a", "softmax", 0, 0.1)]
    results = read_results(write(tmp_path, runs, [curve(runs[1]["run"], [0.1])]))
    assert "1 of 2 runs have no curves: a-silu--0." in results.missing
    assert "1 runs have no HR@10: a-silu--0." in results.missing
    assert results.runs["hr10"].to_list() == [None, 0.1]


def test_different_examples_or_targets_are_flagged(tmp_path: Path) -> None:
    """Gaps need equal examples: another digest or another number of targets is reported."""
    runs = [*pair("a", 1), run("a", "markov", 0, 0.1, examples_digest="else", targets=999)]
    told = "\n".join(read_results(write(tmp_path, runs)).missing)
    assert "In a, seed 0, the digests of the examples differ (markov saw others than the rest)" in told
    assert "tested on 999, 1000 targets" in told


def test_a_seed_that_a_scenario_lacks_altogether_is_said_once(tmp_path: Path) -> None:
    """It is not told of each contestant."""
    missing = read_results(write(tmp_path, [*pair("a"), *pair("b", 1)])).missing
    assert [text for text in missing if "seed" in text] == ["b has no run at all with seed 1."]


def test_refused_events_are_counted_once_a_stream(tmp_path: Path) -> None:
    """All runs of a stream have one joiner's count; streams without a refusal are not named."""
    runs = [row | {"dead_letters": 1200 if row["seed"] else 0} for row in pair()]
    told = [text for text in read_results(write(tmp_path, runs)).missing if "refused" in text]
    assert told == ["In a, seed 1, the joiner refused 1,200 events: they are in no example."]


def test_of_many_names_six_are_listed(tmp_path: Path) -> None:
    """The rest is a number."""
    runs = [*pair("a", 9), *(run("a", "gru", seed, 0.1) for seed in range(2))]
    (told,) = [text for text in read_results(write(tmp_path, runs)).missing if text.startswith("gru")]
    assert told == f"gru has no run for {'; '.join(f'a seed {seed}' for seed in range(2, 8))} and 1 more."


def test_an_oracle_is_tested_on_targets_of_its_own(tmp_path: Path) -> None:
    """It samples events, so neither its number of targets nor its lack of curves is a contradiction."""
    runs = [*pair("a", 1), run("a", "oracle", 0, 0.5, targets=7, examples_digest=None)]
    curves = [curve(str(row["run"]), [0.1]) for row in runs[:2]]
    missing = read_results(write(tmp_path, runs, curves, about=ABOUT | {"planned": 3})).missing
    assert [text for text in missing if "moments" not in text] == []
