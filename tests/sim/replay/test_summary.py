"""What a run in one process prints at its end."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from model.evaluation.metrics import METRICS
from sim.replay.in_process import DirectRun
from sim.replay.summary import print_report


def figures(targets: int, value: float | None = 0.25) -> dict[str, Any]:
    return {"targets": targets} | {metric.key: value for metric in METRICS}


def ended(ranking: int = 0, refused: dict[str, int] | None = None, late: int = 0) -> DirectRun:
    """Return what is left of a run that has ended; popularity was asked as well."""
    of_click = {"targets": 9, "positives": 4, "log_loss": 0.5, "ne": None, "auc": 0.75, "calibration": 1.5}
    report = {
        **{"examples": 1234, "targets": 5678, "rank_targets": ranking, "tokens": 90_123, "items": 45},
        "retrieval": {
            "hstu": {"total": {"all": figures(5678, 0.5), "<1h": figures(12, None)}},
            "popularity": {"total": {"all": figures(5678, 0.125), "<1h": figures(12, 0.0625)}},
        },
        "ranking": {"hstu": {"total": {"click": {"all": of_click}}}},
    }
    training = SimpleNamespace(report=report, digests={"model": "5e" * 16})
    return cast(DirectRun, SimpleNamespace(training=training, refused=lambda: refused or {}, late_labels=lambda: late))


def printed(run: DirectRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "160")
    print_report(run)
    return capsys.readouterr().out


def test_scorers_stand_side_by_side_over_all_items_and_by_their_age(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By age there is HR@10; what was not measured is a dash; the digest is on a line of its own."""
    text = printed(ended(), capsys, monkeypatch)
    assert "1,234 examples, 5,678 retrieval and 0 ranking targets, 90,123 tokens, 45 items known." in text
    assert text.count("0.1250") == text.count("0.5000") == len(METRICS) + 1
    assert "HR@10 by age of the item at the request" in text
    young = next(line for line in text.splitlines() if "<1h" in line)
    assert [word for word in young.split() if word not in "│"] == ["<1h", "12", "–", "0.0625"]
    assert f"digest of model: {'5e' * 16}\n" in text


def test_ranking_and_dead_letters_are_shown_only_where_there_are_any(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts are whole numbers, other figures have four digits."""
    assert "log_loss" not in (without := printed(ended(), capsys, monkeypatch))
    assert "Dead-letters" not in without
    assert "Late labels" not in without
    assert "Late labels: 7 actions" in printed(ended(late=7), capsys, monkeypatch)
    text = printed(ended(9, {"late": 1500, "not-json": 2}), capsys, monkeypatch)
    (row,) = [line for line in text.splitlines() if "click" in line]
    assert [word for word in row.split() if word[0].isdigit() or word == "–"] == [
        *("9", "4", "0.5000", "–", "0.7500", "1.5000"),
    ]
    assert "Dead-letters: 1,500 late, 2 not-json" in text
