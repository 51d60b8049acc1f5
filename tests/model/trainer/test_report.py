from itertools import pairwise
from pathlib import Path

import pytest

from model.trainer.report import TokenRate
from tests.runs import lines, run, start


def test_the_rate_is_of_the_last_ten_seconds() -> None:
    """In silence it falls, to 0 after ten seconds; of hours of silence only these ten count afterwards."""
    wall = [1000.0]
    rate = TokenRate(lambda: wall[0], 500)
    for tokens in (700, 900, 1100):
        wall[0] += 2.0
        rate.add(tokens)
    assert rate.per_s == pytest.approx(100)
    wall[0] += 4.0
    assert rate.per_s == pytest.approx(60)
    wall[0] += 6.0
    assert rate.per_s == 0
    wall[0] += 7200.0
    rate.trim()
    wall[0] += 5.0  # a slow step
    rate.add(2600)
    assert rate.per_s == pytest.approx(1500 / 15)


def test_the_reported_rate_falls_while_nothing_is_trained_on(tmp_path: Path) -> None:
    """A run counts its tokens, and leaves out a silence before the step."""
    wall = [1000.0]

    def tick(step: int) -> bool:
        wall[0] += 2.0
        return step == 4

    training = run(start(tmp_path, now=lambda: wall[0]), after_step=tick)
    busy = training.report["tokens_per_s"]
    wall[0] += 4.0
    assert 0 < training.report["tokens_per_s"] < busy / 1.5
    wall[0] += 6.0
    assert training.report["tokens_per_s"] == 0
    wall[0] += 7200.0
    before = training.learner.counts["tokens"]
    training.step()
    wall[0] += 2.0
    assert training.report["tokens_per_s"] == pytest.approx((training.learner.counts["tokens"] - before) / 12)


def test_lines_come_one_per_window(tmp_path: Path) -> None:
    """One line wherever the number of targets passes a multiple of the window or a share of the first, and at the end.

    With windows of 20 the shares are 2, 3, 5 and 10.
    """
    training = run(start(tmp_path))
    counts = [max(line["targets"], line["rank_targets"]) for line in lines(tmp_path)]
    assert all(any(a < mark <= b for mark in (2, 3, 5, 10, *range(20, b + 1, 20))) for a, b in pairwise(counts[:-1]))
    assert lines(tmp_path)[-1]["step"] == training.learner.counts["steps"]
