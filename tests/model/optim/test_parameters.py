import numpy as np
import pytest
import torch
from torch import nn
from xxhash import xxh3_128

from model.config import ModelSettings, TrainSettings
from model.optim.dense_adamw import DenseOptimizer
from model.optim.parameters import Parameters, stream_seed

MODEL, TRAIN = ModelSettings(dim=8, layers=1, max_len=16), TrainSettings(learning_rate=0.1)


def stepped(module: nn.Module, optimizer: DenseOptimizer, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        for i, parameter in enumerate(module.parameters()):
            if i or step % 2:  # the first has a gradient in every other step
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_the_optimizer_is_adamw_without_decay_and_goes_on_from_its_state() -> None:
    """Values agree with torch's own loop, also across a state taken in the middle; who has no gradient stays."""
    modules = [nn.Linear(5, 3) for _ in range(3)]
    for module in modules[1:]:
        module.load_state_dict(modules[0].state_dict())
    ours, plain = (
        DenseOptimizer(modules[0], 0.1),
        torch.optim.AdamW(modules[1].parameters(), 0.1, (0.9, 0.98), weight_decay=0),
    )
    stepped(modules[0], ours, 3)
    state = ours.state()
    stepped(modules[0], ours, 4, start=3)
    for step in range(7):
        generator = torch.Generator().manual_seed(step)
        for i, parameter in enumerate(modules[1].parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=generator) if i or step % 2 else None
        plain.step()
    resumed = DenseOptimizer(modules[2], 0.1)
    resumed.load_state(state)
    stepped(modules[2], resumed, 4, start=3)
    for name, array in ours.state().items():
        np.testing.assert_array_equal(array, resumed.state()[name])
    for a, b in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_everything_that_the_recommender_keeps_is_a_parameter() -> None:
    """A checkpoint holds the dense part by its parameters; nothing else may decide what it computes."""
    weights = Parameters(MODEL, TRAIN)
    assert set(weights.recommender.state_dict()) == {*weights.dense.parameters}


def test_the_digest_sees_moments_and_not_room() -> None:
    """Weights that took another's state have its digest, however their tables grew."""
    one, other = Parameters(MODEL, TRAIN), Parameters(MODEL, TRAIN)
    one.grow(np.arange(1500, dtype=np.uint64), 3)
    rows = torch.tensor([7, 1400])
    before = digest(one)
    one.items.step(rows, torch.ones(2, MODEL.dim), 0.0)
    assert digest(one) != before
    other.load_state(one.state())
    assert digest(other) == digest(one)


def digest(weights: Parameters) -> str:
    hasher = xxh3_128()
    weights.digest_update(hasher)
    return hasher.hexdigest()


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1, -5])
def test_streams_of_chance_do_not_meet(seed: int) -> None:
    """Items, features and negatives draw from different numbers, whatever the seed."""
    seeds = {stream_seed(seed, stream) for stream in ("items", "features", "negatives")}
    assert len(seeds) == 3
    assert all(0 <= each < 2**64 for each in seeds)
