import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from torch import Tensor

from model.config import TrainSettings
from model.errors import ModelError
from model.learning.negatives import Negatives, draw
from model.network.retrieval_loss import sampled_softmax, unit

MIXTURES = [(0.5, 1.0), (1.0, 1.0), (0.1, 1.0), (0.5, 0.75), (0.3, 2.0)]  # share of uniform ones, power
popularities = st.lists(st.sampled_from([0.0, 0.0, 0.5, 3.0, 100.0]), min_size=1, max_size=12)


def mixed(count: int, uniform: float = 0.5, power: float = 1.0) -> TrainSettings:
    return TrainSettings(negatives=count, negatives_uniform=uniform, negatives_power=power)


def live_of(popularity: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(len(popularity))[: rng.integers(1, len(popularity) + 1)])


@given(popularities, st.integers(1, 9), st.integers(0, 99), st.sampled_from(MIXTURES))
@settings(deadline=None)
def test_expected_counts_of_the_live_rows_sum_to_the_count(
    numbers: list[float], count: int, seed: int, mixture: tuple[float, float]
) -> None:
    """exp(log_q) is how often a row is to be expected, so over all live rows it makes up the draw."""
    popularity = np.array(numbers)
    live = live_of(popularity, seed)
    found = draw(live, popularity, mixed(count, *mixture), np.random.default_rng(seed))
    assert len(found.rows) == min(count, len(live))
    assert set(found.rows.tolist()) <= set(live.tolist())
    assert np.isclose(np.exp(found.log_q(live)).sum(), len(found.rows))


def test_all_live_rows_are_taken_where_there_are_no_more() -> None:
    """The loss is then the softmax over all live items: each once, nothing to correct."""
    live = np.array([0, 2, 3])
    found = draw(live, np.array([1.0, 9.0, 0.0, 2.0]), mixed(3), np.random.default_rng(0))
    assert np.array_equal(found.rows, live)
    assert np.array_equal(found.log_q(live), np.zeros(3))


@pytest.mark.parametrize(("mixture", "uniform"), [((0.5, 1.0), 2), ((0.7, 2.0), 3), ((1.0, 1.0), 4)])
def test_rows_come_up_as_often_as_log_q_says(mixture: tuple[float, float], uniform: int) -> None:
    """Over 40,000 draws each row's count is its expected one, within five standard deviations."""
    popularity, live, draws = np.array([0.0, 5.0, 1.0, 9.0, 0.0, 2.0]), np.array([0, 1, 2, 4, 5]), 10_000
    rng, seen_R, train = np.random.default_rng(7), np.zeros(6), mixed(4, *mixture)
    for _ in range(draws):
        found = draw(live, popularity, train, rng)
        np.add.at(seen_R, found.rows, 1)
    seen, expected = seen_R[live], draws * np.exp(found.log_q(live))
    assert (np.abs(seen - expected) < 5 * np.sqrt(expected)).all()
    weight = popularity[live] ** mixture[1]
    assert np.allclose(expected, draws * (uniform / 5 + (4 - uniform) * weight / weight.sum()))


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


@pytest.mark.parametrize(("seed", "mixture"), [(0, MIXTURES[0]), *((1, mixture) for mixture in MIXTURES)])
def test_the_gradient_is_expected_to_be_that_of_the_full_softmax(seed: int, mixture: tuple[float, float]) -> None:
    """Over 400 draws of 1,000 of 1,500 items the mean is within three and a half standard errors of it.

    That holds for popular positives and for one that nobody has drawn yet, and for any mixture.
    """
    rng, positives, train = np.random.default_rng(seed), [0, 1, 2], mixed(1000, *mixture)
    items_VD = torch.tensor(rng.normal(size=(1500, 8)))
    queries_TD = unit(torch.tensor(rng.normal(size=(3, 8)) * 0.4) + items_VD[:3] / 2).requires_grad_()
    popularity, live = np.where(np.arange(1500) < 100, 50.0, 1.0), np.arange(1500)
    popularity[1] = 0.0
    full = gradient(draw(live, popularity, mixed(1500), rng), positives, queries_TD, items_VD)
    found = np.stack(
        [gradient(draw(live, popularity, train, rng), positives, queries_TD, items_VD) for _ in range(400)]
    )
    assert (np.abs(found.mean(0) - full) < 3.5 * found.std(0) / np.sqrt(len(found))).all()


def test_without_popularity_all_are_uniform() -> None:
    """Before the first positive, where no live row has been popular, or all have faded, log_q is log(K/V) for each."""
    for popularity in (np.zeros(4), np.array([0.0, 0.0, 0.0, 8.0]), np.array([5e-324, 0.0, 1e-310, 0.0])):
        found = draw(np.array([0, 1, 2]), popularity, mixed(2), np.random.default_rng(0))
        assert np.allclose(found.log_q(np.arange(3)), np.log(2 / 3))


def test_equal_generators_draw_equal_rows() -> None:
    """The draw depends on the generator and nothing else."""
    popularity = np.linspace(0, 1, 1000)
    first, second = (draw(np.arange(1000), popularity, mixed(64), np.random.default_rng(3)).rows for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("live", "popularity", "sentence"),
    [([], [1.0], "No live item to draw 3 negatives from"), ([0, 1], [1.0, -2.0], "Row 1 has popularity -2.0")],
)
def test_an_impossible_draw_is_refused(live: list[int], popularity: list[float], sentence: str) -> None:
    """The sentence says what is missing or which row is wrong."""
    with pytest.raises(ModelError, match=sentence):
        draw(np.array(live, dtype=np.int64), np.array(popularity), mixed(3), np.random.default_rng(0))
