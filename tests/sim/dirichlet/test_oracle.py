"""The oracle of the Dirichlet stream: its figures come true, and nobody who knows less does better."""

import math
from typing import Any

import numpy as np
import pytest

from sim.dirichlet.oracle import NEVER, OracleFigures, first_seen, mean_of, oracle
from sim.dirichlet.oracle_posterior import LONGEST, urn
from sim.dirichlet.oracle_ranking import gains, rank_record, record_items
from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.errors import SimError


@pytest.mark.parametrize("zipf", [0.0, 1.5])
def test_surprise_and_entropy_are_those_of_the_items(zipf: float) -> None:
    """Over all items one by one; in nats."""
    stream = DirichletStream(DirichletSettings(records=40, length=30, items=150, categories=8, zipf=zipf))
    made, figures, on = stream.records(20, 21), oracle(stream, range(20, 21)), record_items(stream, 20)
    predicted = urn(stream.settings).predict(made.categories[0])
    for n, item in enumerate(made.items[0]):
        p_I = predicted[n, stream.category_I] * on.shares
        np.testing.assert_allclose(figures.log_loss[0, n], -np.log(p_I[item]))
        np.testing.assert_allclose(figures.entropy[0, n], -(np.log(p_I[p_I > 0]) * p_I[p_I > 0]).sum())


@pytest.fixture(scope="module")
def measured() -> dict[float, tuple[DirichletStream, OracleFigures]]:
    """The oracle on a small stream of each law; slots and alphas are not the paper's."""
    found = {}
    for zipf in (0.0, 1.0):
        chosen: dict[str, Any] = {"slots": 4, "alpha_low": 0.5, "alpha_high": 30.0}
        stream = DirichletStream(
            DirichletSettings(records=1500, length=40, items=2000, categories=50, zipf=zipf, **chosen)
        )
        found[zipf] = stream, oracle(stream, range(500, 1500))
    return found


@pytest.mark.parametrize("zipf", [0.0, 1.0])
def test_what_is_expected_comes_true(measured: Any, zipf: float) -> None:
    """On the stream's own events, by every figure, within four standard errors of the difference."""
    _, figures = measured[zipf]
    pairs = {
        name: (getattr(figures.expected, name), getattr(figures.realised, name)) for name in ("hr10", "hr50", "mrr")
    }
    for name, (hoped, came) in (pairs | {"log_loss": (figures.entropy, figures.log_loss)}).items():
        gap = mean_of(came - hoped)
        assert abs(gap.value) < 4 * gap.stderr, name
        assert gap.stderr < 0.05 * hoped.mean(), name


@pytest.mark.parametrize("zipf", [0.0, 1.0])
def test_nobody_who_knows_less_does_better(measured: Any, zipf: float) -> None:
    """Others rank the same candidates by popularity, and by the categories' counts so far (smoothed)."""
    stream, figures = measured[zipf]
    made = stream.records(500, 1500)
    for smooth in (1e9, 1.0, 0.01):
        hits = [_hits_by_counts(stream, 500 + r, made.items[r], made.categories[r], smooth) for r in range(0, 1000, 10)]
        ceiling = mean_of(figures.expected.hr10[::10])
        assert np.mean(hits) < ceiling.value + 3 * ceiling.stderr, smooth
    positions = figures.expected.hr10.mean(axis=0)
    assert (np.diff(positions) > -0.01 * positions[:-1]).all()


def _hits_by_counts(
    stream: DirichletStream, record: int, items: np.ndarray, categories: np.ndarray, smooth: float
) -> np.ndarray:
    """Return HR@10 of a ranking by (counts + smooth) times the item's share, ties at random, [L]."""
    on, gain = record_items(stream, record), gains(stream.settings.items)
    counts = np.zeros((len(items), stream.settings.categories))
    np.add.at(counts, (np.arange(1, len(items)), categories[:-1]), 1)
    score = np.cumsum(counts, axis=0) + smooth
    return rank_record(score, items, categories, on, gain)[1][:, 0]


def test_items_that_no_record_has_shown_are_misses() -> None:
    """They leave the ranking; if all ids were seen, the figures are those of all. Log-loss does not change."""
    stream = DirichletStream(DirichletSettings(records=300, length=10, items=900, categories=10))
    seen = first_seen(stream)
    made = stream.records(0, 300).items
    by_hand = [np.flatnonzero((made == item).any(axis=1)).min(initial=NEVER) for item in range(900)]
    np.testing.assert_array_equal(seen, by_hand)
    np.testing.assert_array_equal(first_seen(stream, 7), np.where(seen < 7, seen, NEVER))
    whole, partly = oracle(stream, range(5, 300)), oracle(stream, range(5, 300), seen_before=seen)
    unseen = seen[made[5:]] >= np.arange(5, 300)[:, None]
    np.testing.assert_array_equal(np.isinf(partly.ranks), unseen)
    assert 0 < unseen.mean() < 0.5
    assert (partly.expected.hr10 < whole.expected.hr10 + 1e-12).all()
    np.testing.assert_array_equal(partly.log_loss, whole.log_loss)
    everything = oracle(stream, range(5, 300), seen_before=np.zeros(900, np.int64))
    np.testing.assert_array_equal(everything.ranks, whole.ranks)


def test_records_are_answered_in_the_order_of_the_question() -> None:
    """Any of them, of any block; the limit of a stream's events does not matter."""
    stream = DirichletStream(DirichletSettings(records=3000, length=10, items=900, categories=10, limit=5))
    asked = np.array([2900, 0, 1500, 1, 2900])
    figures = oracle(stream, asked)
    for place, record in enumerate(asked):
        alone = oracle(stream, range(record, record + 1))
        np.testing.assert_array_equal(figures.log_loss[place], alone.log_loss[0])
        np.testing.assert_array_equal(figures.expected.mrr[place], alone.expected.mrr[0])
    means = figures.means()
    assert means["hr10"] == mean_of(figures.expected.hr10)
    assert set(means) >= {"hr50", "ndcg10", "mrr", "realised_hr10", "log_loss", "entropy"}
    assert math.isnan(mean_of(figures.log_loss[:1]).stderr)


@pytest.mark.parametrize("records", [range(0), range(-1, 2), range(39, 41)])
def test_records_that_are_not_there_are_refused(records: range) -> None:
    """The error states the range of the numbers."""
    with pytest.raises(SimError, match=r"needs records, of numbers in \[0, 40\)"):
        oracle(DirichletStream(DirichletSettings(records=40, items=900)), records)


def test_records_too_long_are_refused() -> None:
    """Because numbers would underflow."""
    with pytest.raises(SimError, match=f"records of {LONGEST} events at most, not {LONGEST + 1}"):
        oracle(DirichletStream(DirichletSettings(records=4, length=LONGEST + 1)), range(4))
