import numpy as np
import torch
from torch import nn

from model.optim.dense_adamw import DenseAdamW


def stepped(module: nn.Module, optimizer: DenseAdamW, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        for i, parameter in enumerate(module.parameters()):
            if i or step % 2:  # the first has a gradient in every other step
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_it_is_adamw_without_decay_and_goes_on_from_its_state() -> None:
    """Values agree with torch's own loop, also across a state taken in the middle; without a gradient nothing moves."""
    modules = [nn.Linear(5, 3) for _ in range(3)]
    for module in modules[1:]:
        module.load_state_dict(modules[0].state_dict())
    ours, plain = (
        DenseAdamW(modules[0], 0.1),
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
    resumed = DenseAdamW(modules[2], 0.1)
    resumed.load_state(state)
    stepped(modules[2], resumed, 4, start=3)
    for name, array in ours.state().items():
        np.testing.assert_array_equal(array, resumed.state()[name])
    for a, b in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_moments_are_kept_only_of_parameters_that_had_a_gradient() -> None:
    """Names and order of the state are the parameters', each followed by its moments once there are any."""
    module = nn.Linear(2, 1)
    optimizer = DenseAdamW(module, 0.1)
    assert list(optimizer.state()) == ["weight", "bias"]
    module.bias.grad = torch.ones(1)
    optimizer.step()
    assert list(optimizer.state()) == ["weight", "bias", "bias.mean", "bias.square", "bias.steps"]
    assert module.bias.grad is None
