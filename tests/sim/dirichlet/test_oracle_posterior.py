"""The oracle's posterior of the next category: equal to brute force, and precise at every length and alpha."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from sim.dirichlet.oracle_posterior import LONGEST, NODES, Urn, urn
from sim.dirichlet.stream import DirichletSettings

ALPHAS = [(1.0, 1.0), (500.0, 500.0), (1.0, 500.0)]


def law(categories: int, slots: int, alpha: tuple[float, float], length: int = 128, nodes: int = NODES) -> Urn:
    chosen: dict[str, Any] = {"categories": categories, "slots": slots, "length": length, "items": 3 * categories}
    return urn(DirichletSettings(**chosen, alpha_low=alpha[0], alpha_high=alpha[1]), nodes)


def predict(of: Urn, sequence: Sequence[int]) -> np.ndarray:
    """Return the predictive at each event, and after the last one, [n+1, C]."""
    return of.predict(np.array([*sequence, 0], np.int32))


@cache
def root_moment(roots: tuple[int, ...], categories: int, slots: int) -> Fraction:
    """Return the probability that fresh draws by the prior have these categories: over all slots and their draws."""
    total = Fraction(0)
    for drawn in itertools.product(range(categories), repeat=slots):
        for taken in itertools.product(range(slots), repeat=len(roots)):
            if all(drawn[slot] == root for slot, root in zip(taken, roots, strict=True)):
                moment = Fraction(math.factorial(slots - 1), math.factorial(slots - 1 + len(roots)))
                total += moment * math.prod(math.factorial(taken.count(slot)) for slot in range(slots))
    return total / categories**slots


def by_ancestors(sequence: tuple[int, ...], categories: int, slots: int, alpha: Any) -> Any:
    """Return the probability of a sequence: each event copies one before it or is drawn by the prior."""
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
    """A fine sum over the range of alpha, weighted by the likelihood of the events, agrees."""
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
    """Each is computed independently, so that the sum shows any number lost."""
    sequence = data.draw(sequences(categories, slots, 127))
    found = predict(law(categories, slots, alpha), sequence)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-11)
    assert (found >= 0).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("length", [128, LONGEST])
def test_no_number_is_too_small_or_too_large(alpha: tuple[float, float], length: int) -> None:
    """One category all the time, two or five in turns, five one after the other: at both ends of alpha."""
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
    """Before it, all categories are equally likely."""
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
        p = np.cumprod([1.0, *found[np.arange(5), sequence]])
        best += p * found.max(axis=1) / 3.0 ** (5 - np.arange(6))
    assert (np.diff(best) > -1e-12).all()
    np.testing.assert_allclose(best[0], 1 / 3)
    assert best[5] > 0.5
