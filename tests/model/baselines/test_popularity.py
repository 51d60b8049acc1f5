import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

import model.baselines.popularity
from model.baselines.popularity import Popularity
from model.evaluation.ranks import ranks
from tests.batches import UNKNOWN, Quiz, quizzes

HALF_LIFE_MS, START_MS = 1000, 1_700_000_000_000
END_MS = START_MS + 900 * HALF_LIFE_MS  # nothing decays below 2^-1022
occurrences = st.lists(st.tuples(st.integers(0, 5), st.integers(START_MS, END_MS)), max_size=20)
Occurrences = list[tuple[int, int]]


def add(seen: Popularity, every: Occurrences) -> None:
    seen.add(np.array([row for row, _ in every], np.int64), np.array([ts_ms for _, ts_ms in every], np.int64))


def after(*calls: Occurrences) -> Popularity:
    seen = Popularity(HALF_LIFE_MS)
    seen.grow(6)
    for every in calls:
        add(seen, every)
    return seen


@given(occurrences, st.integers(END_MS - 250 * HALF_LIFE_MS, END_MS))
def test_counts_agree_with_the_formula(every: Occurrences, at_ms: int) -> None:
    """An item's count is the sum of 2^(-age / half-life) over its occurrences, in any order of their times."""
    by_hand = [math.fsum(2.0 ** ((ts_ms - at_ms) / HALF_LIFE_MS) for r, ts_ms in every if r == row) for row in range(6)]
    assert after(every).counts(at_ms) == pytest.approx(by_hand, rel=1e-9, abs=0)


@given(occurrences, st.integers(0, 20))
def test_counts_have_the_same_bits_however_they_were_split_into_calls(every: Occurrences, split: int) -> None:
    """Moving the origin is exact, so that it does not show when it moved."""
    whole, halves = after(every), after(every[:split], every[split:])
    assert np.array_equal(whole.counts(END_MS), halves.counts(END_MS))


@given(occurrences, occurrences)
def test_a_restored_state_goes_on_to_the_same_bits(before: Occurrences, then: Occurrences) -> None:
    """Half-life included; the two share no memory."""
    original = after(before)
    restored = Popularity.from_state(original.state())
    for each in (restored, original):
        add(each, then)
    assert restored.half_life_ms == HALF_LIFE_MS
    for name, array in original.state().items():
        assert np.array_equal(restored.state()[name], array)


def test_what_is_very_old_decays_to_nothing() -> None:
    """A log that goes on for thousands of half-lives overflows nowhere."""
    seen = Popularity(HALF_LIFE_MS)
    for half_lives in range(0, 5000, 100):
        add(seen, [(half_lives // 100, half_lives * HALF_LIFE_MS)])
    assert seen.counts(4900 * HALF_LIFE_MS)[-1] == 1
    assert seen.counts(4900 * HALF_LIFE_MS)[0] == 0


def test_it_grows_to_the_wanted_rows() -> None:
    """New rows count 0; growing to fewer rows forgets nothing."""
    seen = Popularity(HALF_LIFE_MS)
    add(seen, [(2, START_MS)])
    assert seen.counts(START_MS).tolist() == [0, 0, 1]
    seen.grow(5)
    seen.grow(1)
    assert seen.counts(START_MS).tolist() == [0, 0, 1, 0, 0]


def test_items_without_a_row_are_refused() -> None:
    """The sentence says what to do first."""
    with pytest.raises(ValueError, match=r"row -1 is no row; admit the items"):
        add(Popularity(HALF_LIFE_MS), [(0, START_MS), (-1, START_MS)])


@given(quizzes(), st.integers(0, 8))
def test_ranks_are_those_of_the_counts_learned_before(quiz: Quiz, popular: int) -> None:
    """Ranks are by what was learned before; the questions' own targets count only after learn()."""
    seen = Popularity(HALF_LIFE_MS)
    add(seen, [(v, START_MS + v) for v in range(min(popular, len(quiz.born_ms)))])
    before = seen.counts(START_MS).copy()
    got = seen.ranks(quiz.questions)
    scores = np.append(before, np.zeros(len(quiz.born_ms) - len(before)))
    every = torch.from_numpy(np.tile(scores, (len(quiz.targets), 1)))
    assert got.tolist() == ranks(every, quiz.questions).tolist()


@given(quizzes().filter(lambda quiz: all(target != UNKNOWN for target in quiz.targets)))
def test_learning_counts_every_target_at_its_request(quiz: Quiz) -> None:
    """learn() is add() of the targets."""
    learned, added = Popularity(HALF_LIFE_MS), Popularity(HALF_LIFE_MS)
    learned.learn(quiz.questions)
    add(added, list(zip(quiz.targets, quiz.request_ms, strict=True)))
    assert learned.counts(START_MS).tolist() == added.counts(START_MS).tolist()


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.baselines.popularity).failed == 0
