import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from model.errors import ModelError
from model.learning.negatives import draw

popularities = st.lists(st.sampled_from([0.0, 0.0, 0.5, 3.0, 100.0]), min_size=1, max_size=12)


def live_of(popularity: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(len(popularity))[: rng.integers(1, len(popularity) + 1)])


@given(popularities, st.integers(1, 9), st.integers(0, 99))
@settings(deadline=None)
def test_expected_counts_of_the_live_rows_sum_to_the_count(numbers: list[float], count: int, seed: int) -> None:
    """exp(log_q) is how often a row is to be expected, so over all live rows it makes up the draw."""
    popularity = np.array(numbers)
    live = live_of(popularity, seed)
    found = draw(live, popularity, count, np.random.default_rng(seed))
    assert len(found.rows) == min(count, len(live))
    assert set(found.rows.tolist()) <= set(live.tolist())
    assert np.isclose(np.exp(found.log_q(live)).sum(), len(found.rows))


def test_all_live_rows_are_taken_where_there_are_no_more() -> None:
    """The loss is then the softmax over all live items: each once, nothing to correct."""
    live = np.array([0, 2, 3])
    found = draw(live, np.array([1.0, 9.0, 0.0, 2.0]), 3, np.random.default_rng(0))
    assert np.array_equal(found.rows, live)
    assert np.array_equal(found.log_q(live), np.zeros(3))


def test_rows_come_up_as_often_as_log_q_says() -> None:
    """Over 200,000 draws each row's count is its expected one, within five standard deviations."""
    popularity, live, draws = np.array([0.0, 5.0, 1.0, 9.0, 0.0, 2.0]), np.array([0, 1, 2, 4, 5]), 50_000
    rng, seen_R = np.random.default_rng(7), np.zeros(6)
    for _ in range(draws):
        found = draw(live, popularity, 4, rng)
        np.add.at(seen_R, found.rows, 1)
    seen, expected, count = seen_R[live], draws * np.exp(found.log_q(live)), 4 * draws
    assert (np.abs(seen - expected) < 5 * np.sqrt(expected)).all()
    assert np.isclose(expected[0], 0.5 * count / 5)
    assert np.isclose(expected[1], count * (0.5 / 5 + 0.5 * 5 / 8))


def test_without_popularity_all_are_uniform() -> None:
    """Before the first positive, and where no live row has been popular, log_q is log(K/V) for every row."""
    for popularity in (np.zeros(4), np.array([0.0, 0.0, 0.0, 8.0])):
        found = draw(np.array([0, 1, 2]), popularity, 2, np.random.default_rng(0))
        assert np.allclose(found.log_q(np.arange(3)), np.log(2 / 3))


def test_equal_generators_draw_equal_rows() -> None:
    """The draw depends on the generator and nothing else."""
    popularity = np.linspace(0, 1, 1000)
    first, second = (draw(np.arange(1000), popularity, 64, np.random.default_rng(3)).rows for _ in range(2))
    assert np.array_equal(first, second)


def test_a_row_that_is_not_live_has_a_finite_log_q() -> None:
    """A positive that has just been withdrawn is corrected like the others."""
    popularity = np.array([1.0, 1.0, 1.0, 2.0])
    found = draw(np.array([0, 1, 2]), popularity, 2, np.random.default_rng(0))
    assert np.allclose(found.log_q(np.array([3])), np.log(1 / 3 + 1 * 2 / 3))


@pytest.mark.parametrize(
    ("live", "popularity", "sentence"),
    [([], [1.0], "No live item to draw 3 negatives from"), ([0, 1], [1.0, -2.0], "Row 1 has popularity -2.0")],
)
def test_an_impossible_draw_is_refused(live: list[int], popularity: list[float], sentence: str) -> None:
    """The sentence says what is missing or which row is wrong."""
    with pytest.raises(ModelError, match=sentence):
        draw(np.array(live, dtype=np.int64), np.array(popularity), 3, np.random.default_rng(0))
