"""Numbers as text, and the sentences of the report."""

from pathlib import Path

import pytest

from sim.report.analysis.results import Results, read_results
from sim.report.analysis.text import (
    answer,
    contestant_in_question,
    count,
    duration,
    interval,
    number,
    percent,
    plural,
    remarks,
    signed,
    spread,
    tally,
)
from tests.sim.report.report_folders import run, runs_of, write


def results_of(folder: Path, *runs: dict[str, object]) -> Results:
    return read_results(write(folder, runs))


def test_what_was_not_measured_is_a_dash() -> None:
    """In every kind of number; a mean without an interval stands alone."""
    dashes = [number(None), signed(None), percent(None), count(None), duration(None), spread(None, 0.1)]
    assert [*dashes, interval(None, 0.1), interval(0.1, None)] == ["–"] * 8
    assert spread(0.25, None) == "0.2500"
    assert spread(0.25, 0.5) == "0.2500 ± 0.5000"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "+0.0123"), (-0.0123, "−0.0123"), (0.0, "0.0000"), (-0.00001, "0.0000"), (1234.5, "+1,234.5000")],
)
def test_what_rounds_to_nothing_has_no_sign(value: float, text: str) -> None:
    """Signs are typographic, thousands are parted."""
    assert signed(value) == text


def test_numbers_have_a_typographic_minus_and_shares_a_space() -> None:
    """No hyphen is left, so that columns line up."""
    assert (number(-0.5), percent(-0.123), percent(0.123, sign=True)) == ("−0.5000", "−12.3 %", "+12.3 %")
    assert (interval(-0.1, 0.2), count(12344.6), plural(1, "run"), plural(0, "run")) == (
        *("[−0.1000, +0.2000]", "12,345", "1 run", "0 runs"),
    )


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (999, "999 ms"),
        (1000, "1 seconds"),
        (59_000, "59 seconds"),
        (60_000, "1 minutes"),
        (5_400_000, "1.5 hours"),
        (86_400_000 * 2.5, "2.5 days"),
        (0, "0 ms"),
    ],
)
def test_a_duration_is_in_the_largest_unit_that_it_fills(ms: float, text: str) -> None:
    """Three digits are enough."""
    assert duration(ms) == text


def test_verdicts_are_counted_over_scenarios() -> None:
    """In a fixed order, whatever the scenarios' order; what did not happen is not said."""
    assert tally(["behind", "ahead", "open", "ahead"]) == (
        "ahead in 2, behind in 1 and not to be told apart in 1 of 4 scenarios"
    )
    assert tally(["equal"]) == "exactly equal in 1 of 1 scenario"


def test_hstu_is_in_question_else_the_first_neural_one(tmp_path: Path) -> None:
    """Never the one it is compared with, nor a baseline or an oracle."""
    some = [run("a", name, 0, 0.1) for name in ("markov", "oracle", "softmax", "gru")]
    assert contestant_in_question(results_of(tmp_path / "1", *some)) == "gru"
    assert contestant_in_question(results_of(tmp_path / "2", *some, run("a", "silu", 0, 0.1))) == "silu"
    assert contestant_in_question(results_of(tmp_path / "4", *some, run("a", "hstu", 0, 0.1)), "stack") == "hstu"
    assert contestant_in_question(results_of(tmp_path / "3", *some[:3])) is None


def test_several_scenarios_are_summed_up_first(tmp_path: Path) -> None:
    """One sentence with the tally, then one for each; a single scenario needs no sum."""
    first, *each = answer(results_of(tmp_path / "1", *runs_of("ab", 2, ("silu", "softmax"))))
    assert first == (
        "HSTU, SiLU against HSTU, softmax, HR@10 over the whole stream, 2 seeds: ahead in 2 of 2 scenarios."
    )
    assert [sentence.split(":")[0] for sentence in each] == ["Scenario a", "Scenario b"]
    (only,) = answer(results_of(tmp_path / "2", *runs_of("a", 2, ("silu", "softmax"))))
    assert only.startswith("Scenario a: HSTU, SiLU leads HSTU, softmax by 0.0495 HR@10")


def test_remarks_tell_how_targets_were_scored_and_what_the_oracle_errs(tmp_path: Path) -> None:
    """The share that was tested, the mean log-loss, and the error of a mean of two sampled hit rates."""
    part = '{"test_share": 0.25}'
    runs = [run("a", "silu", 0, 0.1, settings=part), run("b", "silu", 0, 0.1, score_at="request")]
    runs += [run("a", "oracle", seed, 0.5, log_loss=1.5 + seed, stderr_hr10=err) for seed, err in ((0, 0.3), (1, 0.4))]
    results = results_of(tmp_path, *runs)
    scored, tested, oracle = remarks(results, "a, scored at label")
    assert scored.startswith("Targets are scored when their label is final")
    assert tested == "Only 25 % of the micro-batches are tested, the same ones for everybody."
    assert oracle.startswith("Oracle: log-loss 2.0000 ± ")
    assert oracle.endswith("a standard error of 0.2500 of its own.")
    (at_request,) = remarks(results, "b, scored at request")
    assert at_request == "Targets are scored at their request, by the weights of that time."
