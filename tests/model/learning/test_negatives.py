import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from torch import Tensor

from model.errors import ModelError
from model.learning.negatives import Negatives, draw
from model.network.retrieval_loss import sampled_softmax, unit

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


def gradient(found: Negatives, positives: list[int], queries_TD: Tensor, items_VD: Tensor) -> NDArray[np.float64]:
    """Return the gradient of the queries."""
    loss = sampled_softmax(
        queries_TD,
        items_VD[positives],
        items_VD[found.rows],
        log_q_K=torch.tensor(found.log_q(found.rows)),
        hits=torch.tensor(np.array(positives)[:, None] == found.rows).nonzero(as_tuple=True),
        temperature=0.3,
    )
    return torch.autograd.grad(loss, queries_TD)[0].numpy()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_is_expected_to_be_that_of_the_full_softmax(seed: int) -> None:
    """Over 400 draws of 200 of 300 items the mean is within three and a half standard errors of it.

    That holds for popular positives and for one that nobody has drawn yet.
    """
    rng, positives = np.random.default_rng(seed), [0, 1, 2]
    items_VD = torch.tensor(rng.normal(size=(300, 8)))
    queries_TD = unit(torch.tensor(rng.normal(size=(3, 8)) * 0.4) + items_VD[:3] / 2).requires_grad_()
    popularity, live = np.where(np.arange(300) < 20, 50.0, 1.0), np.arange(300)
    popularity[1] = 0.0
    full = gradient(draw(live, popularity, 300, rng), positives, queries_TD, items_VD)
    found = np.stack([gradient(draw(live, popularity, 200, rng), positives, queries_TD, items_VD) for _ in range(400)])
    assert (np.abs(found.mean(0) - full) < 3.5 * found.std(0) / np.sqrt(len(found))).all()


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


@pytest.mark.parametrize(
    ("live", "popularity", "sentence"),
    [([], [1.0], "No live item to draw 3 negatives from"), ([0, 1], [1.0, -2.0], "Row 1 has popularity -2.0")],
)
def test_an_impossible_draw_is_refused(live: list[int], popularity: list[float], sentence: str) -> None:
    """The sentence says what is missing or which row is wrong."""
    with pytest.raises(ModelError, match=sentence):
        draw(np.array(live, dtype=np.int64), np.array(popularity), 3, np.random.default_rng(0))
