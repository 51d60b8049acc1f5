import os
from pathlib import Path

import numpy as np
import pytest
import torch
from xxhash import xxh3_128

from model.config import ModelSettings, TrainSettings
from model.data.item_features import ItemFeatures
from model.errors import ModelError
from model.network.retrieval_loss import unit
from model.optim.parameters import Parameters, choose_device, stream_seed

MODEL, TRAIN = ModelSettings(dim=8, layers=1, max_len=16), TrainSettings(learning_rate=0.1, device="cpu")


def digest(weights: Parameters) -> str:
    hasher = xxh3_128()
    weights.digest_update(hasher)
    return hasher.hexdigest()


def grown(items: int = 6, **model: object) -> Parameters:
    weights = Parameters(MODEL.model_copy(update=model), TRAIN)
    weights.grow(np.arange(items, dtype=np.uint64), 3)
    return weights


def test_everything_that_the_recommender_keeps_is_a_parameter() -> None:
    """A checkpoint holds the dense part by its parameters; nothing else may decide what it computes."""
    weights = Parameters(MODEL, TRAIN)
    assert set(weights.recommender.state_dict()) == {*weights.dense.parameters}


def test_a_step_moves_what_has_a_gradient_and_nothing_else() -> None:
    """Gathered rows with a gradient and dense parameters with one move; the unit vectors follow."""
    weights = grown()
    weights.unit_items(6)
    items, features, start = (
        tensor.clone() for tensor in (weights.items.rows, weights.features.rows, weights.recommender.start.data)
    )
    gathered = weights.gather(np.array([4, 1, -1]), np.array([2, -1]))
    loss = gathered.items.leaf.square().sum() + weights.recommender.start.sum()
    assert weights.descend(loss, gathered) == loss.item()
    assert (weights.items.rows != items).any(1).tolist() == [False, True, False, False, True, False]
    assert torch.equal(weights.features.rows, features)
    assert (weights.recommender.start != start).all()
    assert torch.equal(weights.unit_items(6), unit(weights.items.rows))


def test_a_ratio_multiplies_both_rates() -> None:
    """For this step alone; dense weights and rows alike move three times as far."""
    moved = []
    for ratio in (1.0, 3.0):
        weights = grown()
        rows, start = weights.items.rows.clone(), weights.recommender.start.data.clone()
        gathered = weights.gather(np.array([1]), np.array([0]))
        weights.descend(gathered.items.leaf.sum() + weights.recommender.start.sum(), gathered, ratio)
        moved.append((weights.items.rows - rows, weights.recommender.start.data - start))
        assert weights.dense.lr == TRAIN.learning_rate
    for once, thrice in zip(*moved, strict=True):
        torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_diverged_loss_moves_nothing(factor: float) -> None:
    """The sentence names the loss and what to lower."""
    weights = grown()
    gathered = weights.gather(np.array([0]), np.array([0]))
    before = digest(weights)
    with pytest.raises(ModelError, match=r"training has diverged: the loss is (nan|inf).*lower train.learning_rate"):
        weights.descend(factor * (gathered.items.leaf.sum() + 9), gathered)
    assert digest(weights) == before


def test_up_to_the_cap_items_come_without_a_copy_and_take_memory_as_they_come() -> None:
    """On a CPU neither rows nor unit vectors are moved, and what nothing has used takes no page."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, weights = resident(), Parameters(ModelSettings(dim=64), TrainSettings(device="cpu", max_items=1_000_000))
    weights.grow(np.arange(6, dtype=np.uint64), 3)
    weights.unit_items(6)
    parts = weights.items.weight, weights.items._mean, weights.items._square, weights._units._units
    assert sum(part.nbytes for part in parts[:3]) > 700_000_000
    assert resident() - before < 64 << 20
    weights.grow(np.arange(20_000, dtype=np.uint64), 3)
    there = weights.items.weight, weights.items._mean, weights.items._square, weights._units._units
    assert [part.data_ptr() for part in there] == [part.data_ptr() for part in parts]


def test_items_may_share_rows() -> None:
    """With item_rows 4 the items 1 and 5 are one row: gathered once, and equal in every answer."""
    weights = grown(6, item_rows=4)
    gathered = weights.gather(np.array([5, 1, -1, 2]), np.array([0]))
    assert gathered.items.rows.tolist() == [1, 2]
    assert gathered.items.at.tolist() == [0, 0, -1, 1]
    assert len(weights.items) == 4
    for rows in (weights.unit_items(6), weights.item_weights()):
        assert rows.shape == (6, MODEL.dim)
        assert torch.equal(rows[5], rows[1])


@pytest.mark.parametrize("item_rows", [0, 4])
def test_items_have_the_rows_of_their_features(item_rows: int) -> None:
    """In what is gathered and in unit vectors, after every change; items in one row are told apart by their features.

    A step moves the rows of items and of features, each by its own gradient.
    """
    features = ItemFeatures(["*"])
    weights = Parameters(MODEL.model_copy(update={"item_rows": item_rows}), TRAIN, features)
    weights.grow(np.arange(6, dtype=np.uint64), 3)
    features.grow(6)

    def by_hand() -> torch.Tensor:
        found = weights.item_weights().clone()
        for item, rows in values.items():
            found[item] += weights.features.rows[rows].mean(0)
        return found

    values = {5: [2], 2: [0, 2]}
    for item, rows in values.items():
        features.put(item, np.array(rows), np.full(len(rows), 1 / len(rows), np.float32))
    assert torch.allclose(weights.unit_items(6), unit(by_hand()))
    assert not torch.equal(weights.unit_items(6)[5], weights.unit_items(6)[1])
    gathered = weights.gather(np.array([5, 1, -1, 2, 5]), np.array([1, -1]))
    assert gathered.item_at.tolist() == [2, 0, -1, 1, 2]
    assert gathered.feature_at.tolist() == [1, -1]
    assert torch.allclose(gathered.vectors, by_hand()[[1, 2, 5]])
    before = weights.features.rows.clone()
    weights.descend(gathered.vectors[2].sum(), gathered)
    assert (weights.features.rows != before).any(1).tolist() == [False, False, True]
    assert torch.allclose(weights.unit_items(6), unit(by_hand()))
    values = {2: [1]}
    features.put(2, np.array([1]), np.ones(1, np.float32))
    features.clear(np.array([5]))
    assert torch.allclose(weights.unit_items(6), unit(by_hand()))
    if not item_rows:
        weights.renew_items(np.array([2]))
        assert torch.allclose(weights.unit_items(6), unit(by_hand()))


def test_the_digest_sees_moments_and_not_capacity() -> None:
    """Parameters that took another's state have its digest, however their tables grew."""
    one, other = Parameters(MODEL, TRAIN), Parameters(MODEL, TRAIN)
    one.grow(np.arange(1500, dtype=np.uint64), 3)
    rows = torch.tensor([7, 1400])
    before = digest(one)
    one.items.step(rows, torch.ones(2, MODEL.dim), 0.0)
    assert digest(one) != before
    other.load_state(one.state())
    assert digest(other) == digest(one)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1, -5])
def test_random_streams_have_seeds_of_their_own(seed: int) -> None:
    """Items, features and negatives draw different numbers, whatever the seed."""
    seeds = {stream_seed(seed, stream) for stream in ("items", "features", "negatives")}
    assert len(seeds) == 3
    assert all(0 <= each < 2**64 for each in seeds)


def test_a_missing_gpu_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` on a machine without is refused; `auto` takes the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ModelError, match="finds no CUDA device"):
        choose_device("cuda")


def test_a_cap_without_memory_is_refused() -> None:
    """By its name, with what it would take."""
    with pytest.raises(
        ModelError, match=r"train\.max_items = 100,000,000,000 cannot .* on cpu: .* take 10,400 GB; set it"
    ):
        Parameters(MODEL, TRAIN.model_copy(update={"max_items": 10**11}))
