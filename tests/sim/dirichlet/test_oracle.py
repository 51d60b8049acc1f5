import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from sim.dirichlet.oracle import NEVER, OracleFigures, first_seen, mean_of, oracle
from sim.dirichlet.oracle_posterior import LONGEST, NODES, Urn, urn
from sim.dirichlet.oracle_ranking import gains, rank_record, shelf
from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.errors import SimError

ALPHAS = [(1.0, 1.0), (500.0, 500.0), (1.0, 500.0)]


def law(categories: int, slots: int, alpha: tuple[float, float], length: int = 128, nodes: int = NODES) -> Urn:
    chosen: dict[str, Any] = {"categories": categories, "slots": slots, "length": length, "items": 3 * categories}
    return urn(DirichletSettings(**chosen, alpha_low=alpha[0], alpha_high=alpha[1]), nodes)


def predict(of: Urn, sequence: Sequence[int]) -> np.ndarray:
    """Give the predictive at each event, and after the last one, [n+1, C]."""
    return of.predict(np.array([*sequence, 0], np.int32))


@cache
def root_moment(roots: tuple[int, ...], categories: int, slots: int) -> Fraction:
    """Give the probability that fresh draws by the prior have these categories: all slots, all draws of them."""
    total = Fraction(0)
    for drawn in itertools.product(range(categories), repeat=slots):
        for taken in itertools.product(range(slots), repeat=len(roots)):
            if all(drawn[slot] == root for slot, root in zip(taken, roots, strict=True)):
                moment = Fraction(math.factorial(slots - 1), math.factorial(slots - 1 + len(roots)))
                total += moment * math.prod(math.factorial(taken.count(slot)) for slot in range(slots))
    return total / categories**slots


def by_ancestors(sequence: tuple[int, ...], categories: int, slots: int, alpha: Any) -> Any:
    """Give the probability of a sequence of categories: each event copies one before it or is drawn by the prior."""
    total = 0 * alpha
    for parents in itertools.product(*(range(-1, n) for n in range(len(sequence)))):
        if all(parent < 0 or sequence[n] == sequence[parent] for n, parent in enumerate(parents)):
            roots = sorted(sequence[n] for n, parent in enumerate(parents) if parent < 0)
            total = total + root_moment(tuple(roots), categories, slots) * alpha ** len(roots)
    return total / math.prod(alpha + n for n in range(len(sequence)))


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["1/2", "1", "7", "500"]))
def test_a_known_alpha_gives_what_all_ancestries_give(
    data: st.DataObject, categories: int, slots: int, at: str
) -> None:
    """Exact rational sums over slots, priors and who copies whom: no Stirling number, no weight of a category."""
    sequence = tuple(data.draw(st.lists(st.integers(0, categories - 1), max_size=4)))
    alpha = Fraction(at)
    whole = by_ancestors(sequence, categories, slots, alpha)
    if not whole:
        return  # more categories than slots
    found = predict(law(categories, slots, (float(alpha), float(alpha)), length=8), sequence)[-1]
    exact = [by_ancestors((*sequence, c), categories, slots, alpha) / whole for c in range(categories)]
    np.testing.assert_allclose(found, [float(p) for p in exact], rtol=1e-12)


@pytest.mark.parametrize("sequence", [(), (0,), (0, 0), (0, 1, 0), (2, 1, 1, 2), (0, 1, 2, 0)])
def test_an_unknown_alpha_is_integrated_by_its_law(sequence: tuple[int, ...]) -> None:
    """A fine sum over its range, weighted by what the events say of it, agrees."""
    edges = np.linspace(0.5, 20, 20_001)
    alpha = (edges[1:] + edges[:-1]) / 2
    exact = [by_ancestors((*sequence, c), 3, 3, alpha).mean() for c in range(3)]
    found = predict(law(3, 3, (0.5, 20.0), length=8), sequence)[-1]
    np.testing.assert_allclose(found, exact / by_ancestors(sequence, 3, 3, alpha).mean(), rtol=1e-6)


@st.composite
def sequences(draw: st.DrawFn, categories: int, slots: int, longest: int) -> list[int]:
    """Draw the categories of a record, some of them often."""
    known = draw(st.lists(st.integers(0, categories - 1), min_size=1, max_size=slots, unique=True))
    return draw(st.lists(st.sampled_from(known), max_size=longest))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([*ALPHAS, (1e-3, 1e5)]), st.integers(1, 7), st.sampled_from([1, 2, 5, 100]))
def test_probabilities_sum_to_one(data: st.DataObject, alpha: tuple[float, float], slots: int, categories: int) -> None:
    """Each is computed on its own, so that the sum tells of any number lost."""
    sequence = data.draw(sequences(categories, slots, 127))
    found = predict(law(categories, slots, alpha), sequence)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-11)
    assert (found >= 0).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("length", [128, LONGEST])
def test_no_number_is_too_small_or_too_large(alpha: tuple[float, float], length: int) -> None:
    """One category all the time, two in turns, five in turns, five one after the other: at both ends of alpha."""
    of, n = law(100, 5, alpha, length), np.arange(length)
    for sequence in (0 * n, n % 2, n % 5, 5 * n // length, np.minimum(n, 4)):
        found = of.predict(sequence.astype(np.int32))
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-11)
        assert (found[n, sequence] > 0).all()


def test_the_ends_of_alpha_are_known_laws() -> None:
    """With alpha near 0 all is copied: the shares so far. With an endless alpha: a Dirichlet-multinomial of slots."""
    sequence = [0] * 60 + [1] * 40
    np.testing.assert_allclose(predict(law(100, 5, (1e-9, 1e-9)), sequence)[-1, :2], [0.6, 0.4], rtol=1e-6)
    endless = predict(law(2, 2, (1e12, 1e12)), sequence)[-1]
    np.testing.assert_allclose(endless, [61 / 102, 41 / 102], rtol=1e-6)


def test_a_single_slot_is_known_after_one_event() -> None:
    """Before it, all categories are alike."""
    found = predict(law(4, 1, (1.0, 500.0)), [2] * 100)
    np.testing.assert_allclose(found[0], 0.25)
    np.testing.assert_allclose(found[1:], [[0, 0, 1, 0]] * 100, atol=1e-12)


def test_twice_as_many_nodes_change_nothing() -> None:
    """The quadrature over alpha is as exact as the arithmetic."""
    n = np.arange(128)
    for sequence in (0 * n, n % 2, n % 5, 5 * n // 128):
        once, twice = (law(100, 5, (1.0, 500.0), nodes=nodes).predict(sequence.astype(np.int32)) for nodes in (64, 128))
        np.testing.assert_allclose(once, twice, rtol=1e-11)


def test_who_knows_more_events_guesses_better() -> None:
    """The expected probability of the best guess rises with each event: over all sequences, each by its probability."""
    of = law(3, 3, (0.5, 20.0), length=8)
    best = np.zeros(6)
    for sequence in itertools.product(range(3), repeat=5):
        found = predict(of, sequence)
        chance = np.cumprod([1.0, *found[np.arange(5), sequence]])
        best += chance * found.max(axis=1) / 3.0 ** (5 - np.arange(6))
    assert (np.diff(best) > -1e-12).all()
    np.testing.assert_allclose(best[0], 1 / 3)
    assert best[5] > 0.5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.7, 2.0]), st.booleans())
def test_ranks_and_gains_are_those_of_sorting_all_items(seed: int, zipf: float, partly: bool) -> None:
    """Merging runs is as good as sorting; tied items earn the mean of their places."""
    stream = DirichletStream(DirichletSettings(seed=seed, records=40, length=30, items=150, categories=8, zipf=zipf))
    known = np.random.default_rng(seed).random(150) < 0.6 if partly else np.ones(150, bool)
    made, on = stream.records(20, 21), shelf(stream, 20, known if partly else None)
    predicted = urn(stream.settings).predict(made.categories[0])
    gain = gains(150)
    expected, realised, ranks = rank_record(predicted, made.items[0], made.categories[0], on, gain)
    ranked = np.flatnonzero(known & (np.arange(150) < stream.available(np.array([20]))[0]))
    for n, item in enumerate(made.items[0]):
        chance = predicted[n, stream.category_I] * on.shares
        np.testing.assert_allclose(chance.sum(), 1)
        falling = np.sort(chance[ranked])[::-1]
        np.testing.assert_allclose(expected[n], falling @ np.diff(gain, axis=0)[: len(ranked)])
        above, level = (chance[ranked] > chance[item]).sum(), (chance[ranked] == chance[item]).sum()
        if not known[item]:
            assert np.isinf(ranks[n])
            assert not realised[n].any()
        else:
            assert ranks[n] == above + (level + 1) / 2
            np.testing.assert_allclose(realised[n], (gain[above + level] - gain[above]) / level, rtol=1e-9)


@pytest.mark.parametrize("zipf", [0.0, 1.5])
def test_surprise_and_entropy_are_those_of_the_items(zipf: float) -> None:
    """Over all items one by one; in nats."""
    stream = DirichletStream(DirichletSettings(records=40, length=30, items=150, categories=8, zipf=zipf))
    made, figures, on = stream.records(20, 21), oracle(stream, range(20, 21)), shelf(stream, 20)
    predicted = urn(stream.settings).predict(made.categories[0])
    for n, item in enumerate(made.items[0]):
        chance = predicted[n, stream.category_I] * on.shares
        np.testing.assert_allclose(figures.log_loss[0, n], -np.log(chance[item]))
        np.testing.assert_allclose(figures.entropy[0, n], -(np.log(chance[chance > 0]) * chance[chance > 0]).sum())


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
    """Rivals rank the same candidates: by popularity, and by the categories' counts so far (smoothed)."""
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
    """Give the hit rate at 10 of someone who ranks by (counts + smooth) times the item's share, ties at random, [L]."""
    on, gain = shelf(stream, record), gains(stream.settings.items)
    counts = np.zeros((len(items), stream.settings.categories))
    np.add.at(counts, (np.arange(1, len(items)), categories[:-1]), 1)
    score = np.cumsum(counts, axis=0) + smooth
    return rank_record(score, items, categories, on, gain)[1][:, 0]


def test_items_that_no_record_has_shown_are_misses() -> None:
    """And leave the ranking; who has seen all is as good as one who knows all. Surprise does not change."""
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
    """In a sentence with the numbers that there are."""
    with pytest.raises(SimError, match=r"needs records, of numbers in \[0, 40\)"):
        oracle(DirichletStream(DirichletSettings(records=40, items=900)), records)


def test_records_too_long_are_refused() -> None:
    """Before any number is lost."""
    with pytest.raises(SimError, match=f"records of {LONGEST} events at most, not {LONGEST + 1}"):
        oracle(DirichletStream(DirichletSettings(records=4, length=LONGEST + 1)), range(4))
