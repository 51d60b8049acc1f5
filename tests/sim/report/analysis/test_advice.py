"""What to choose for a log, by figures made by hand."""

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sim.report.analysis.advice import Advice, advice
from sim.report.analysis.results import read_results
from sim.report.analysis.statistics import critical
from tests.sim.report.report_folders import curve, run, write

LATE = 10  # of a hundred stretches


def found(
    tmp_path: Path,
    rates: dict[str, list[float]],
    seeds: int = 1,
    targets: int = 100 * LATE,
    items: int | None = 21,
    **settings: dict[str, Any],
) -> Advice:
    """Return the advice for contestants with an HR@10 in each of the last stretches, of 100 targets each."""
    runs, curves = [], []
    for name, late in rates.items():
        for seed in range(seeds):
            kind = "baseline" if name in ("stack", "markov") else "neural"
            spec = {"log": {"log": ["own.csv"]}, "stream": {}, "model": {}, "train": {}} | settings.get(name, {})
            row = run("own.csv", name, seed, 0.9, kind=kind, settings=json.dumps(spec), late_share=LATE / 100)
            runs.append(row | {"late_targets": targets, "items": items})
            curves.append(curve(str(row["run"]), [0.9] * (100 - LATE) + late))
    chosen = advice(read_results(write(tmp_path, runs, curves)))
    assert chosen is not None
    return chosen


def test_a_gap_has_an_interval_over_stretches_of_the_stream(tmp_path: Path) -> None:
    """Gaps of .1 and .3 in turns: .2 on average, with Student's interval of ten; what came before is left out."""
    rates = {"silu": [0.5, 0.7] * 5, "markov": [0.4] * LATE}
    best, other = found(tmp_path, rates).standings
    assert (best.contestant, best.behind, best.half) == ("silu", 0.0, None)
    assert (best.hr10, other.hr10) == (pytest.approx(0.6), pytest.approx(0.4))
    assert other.behind == pytest.approx(0.2)
    deviation = 0.1 * math.sqrt(LATE / (LATE - 1))
    assert other.half == pytest.approx(critical(LATE - 1) * deviation / math.sqrt(LATE))
    assert not other.open


def test_seeds_lie_beside_each_other(tmp_path: Path) -> None:
    """Two seeds are twice as many stretches; a contestant that has fewer seeds than others is left out."""
    both = found(tmp_path, {"silu": [0.5, 0.7] * 5, "markov": [0.4] * LATE}, seeds=2).standings
    deviation = 0.1 * math.sqrt(2 * LATE / (2 * LATE - 1))
    assert both[1].half == pytest.approx(critical(2 * LATE - 1) * deviation / math.sqrt(2 * LATE))


def test_a_counter_that_wins_is_called_a_winner(tmp_path: Path) -> None:
    """The sentences name it and the best network, and say that the network adds nothing; its settings follow."""
    chosen = found(tmp_path, {"silu": [0.3] * LATE, "stack": [0.4, 0.5] * 5, "gru": [0.2] * LATE})
    assert chosen.sentences[0] == "stack recommends best in the last 10 %: HR@10 0.4500."
    said = (
        r"The best network, silu (HSTU, SiLU), is behind: HR@10 0.3000, less by 0.1500 ± 0.0377 (33.3 % of the best's)."
    )
    assert chosen.sentences[1] == said
    assert "the network adds nothing to counts here" in chosen.sentences[2]
    assert [each.contestant for each in chosen.networks] == ["silu", "gru"]


def test_few_targets_or_items_decide_nothing(tmp_path: Path) -> None:
    """Below 200 targets, up to 20 items, or where nobody finds anything: a sentence says why, and nothing is chosen."""
    rates = {"silu": [0.9] * LATE, "stack": [0.5] * LATE}
    for few, says in (
        ({"targets": 199}, "the last 10 % has 199 targets, and with fewer than 200 the order is chance"),
        ({"targets": 0}, "the last 10 % has 0 targets"),
        ({"items": 20}, "HR@10 shows ten of 20 items"),
    ):
        chosen = found(tmp_path / str(few), rates, **few)
        (sentence,) = chosen.sentences
        assert sentence.startswith("Nothing is recommended: ")
        assert says in sentence
        assert chosen.toml == ""
    nobody = found(tmp_path / "nobody", {"silu": [0.0] * LATE, "stack": [0.0] * LATE})
    assert nobody.sentences == ["Nothing is recommended: nobody has found a target in the last 10 %."]
    assert "recommends best" in found(tmp_path / "enough", rates, targets=200).sentences[0]


def test_settings_of_a_network_that_adds_nothing_are_not_to_be_pasted(tmp_path: Path) -> None:
    """What is said above them depends on who is best."""
    network, counter = {"silu": [0.5] * LATE}, {"stack": [0.4] * LATE}
    assert found(tmp_path / "a", network | counter).toml_title == "The settings of the best network, for hstu.toml:"
    counter = {"stack": [0.6] * LATE}
    title = found(tmp_path / "b", network | counter).toml_title
    assert title == "stack needs no network. Only if you want one all the same, the best has these settings:"


def test_a_contestant_is_named_first_by_its_flag(tmp_path: Path) -> None:
    """What the table and --contestant call it; its title explains."""
    chosen = found(tmp_path, {"markov": [0.5] * LATE, "silu": [0.4] * LATE})
    assert chosen.sentences[0] == "markov (markov chain) recommends best in the last 10 %: HR@10 0.5000."


def test_what_chance_could_have_made_is_said(tmp_path: Path) -> None:
    """A counter within the interval cannot be told from the best."""
    chosen = found(tmp_path, {"silu": [0.3, 0.5] * 5, "stack": [0.4, 0.38] * 5})
    assert "The best counter, stack, cannot be told from it" in chosen.sentences[1]


def test_without_a_counter_the_question_stays_open(tmp_path: Path) -> None:
    """Nobody knows then whether a network is needed at all."""
    assert "add --contestant stack" in found(tmp_path, {"silu": [0.3] * LATE}).sentences[-1]


def test_the_settings_are_those_of_the_best_network(tmp_path: Path) -> None:
    """Only what differs from the defaults, as TOML."""
    tables = {"stream": {"example_tokens": 64}, "model": {"encoder": "gru", "bias": "none", "dim": 64}, "train": {}}
    tables["train"] = {"rank_weight": 0.5, "fuse_counts": True, "negative_actions": ["skip"]}
    chosen = found(tmp_path, {"silu": [0.3] * LATE, "gru": [0.4] * LATE, "stack": [0.9] * LATE}, gru=tables)
    assert tomllib.loads(chosen.toml) == {
        "stream": {"example_tokens": 64},
        "model": {"encoder": "gru", "bias": "none"},
        "train": {"rank_weight": 0.5, "negative_actions": ["skip"]},
    }


def test_scenarios_have_no_advice(tmp_path: Path) -> None:
    """Nobody wants to choose for a world that does not exist."""
    row = run("shock", "silu", 0, 0.5)
    assert advice(read_results(write(tmp_path, [row], [curve(str(row["run"]), [0.5] * 100)]))) is None
