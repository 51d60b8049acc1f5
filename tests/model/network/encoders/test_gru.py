import math

import pytest
import torch
from torch import Tensor

from model.config import ModelSettings
from model.network.encoders.gru import Encoder, Layer
from tests.model.network.encoders.loops import check_against_loops

DOUBLE, DIM = torch.float64, 10


def encoder(layers: int = 2) -> Encoder:
    generator = torch.Generator().manual_seed(3)
    settings = ModelSettings(encoder="gru", dim=DIM, layers=layers, heads=1, max_len=16)
    made = Encoder(settings, dtype=DOUBLE, generator=generator)
    with torch.no_grad():  # biases that have an effect
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=DOUBLE) * 0.3)
    return made


def by_hand(made: Encoder, x_nD: Tensor) -> Tensor:
    """Return the output of one sequence, step by step."""
    for layer in made.layers:
        assert isinstance(layer, Layer)
        weight, recurrent, bias, recurrent_bias = layer.gru.parameters()
        h, states = torch.zeros(DIM, dtype=DOUBLE), []
        for x in x_nD:
            (r_x, z_x, n_x), (r_h, z_h, n_h) = (
                (weight @ x + bias).split(DIM),
                (recurrent @ h + recurrent_bias).split(DIM),
            )
            r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
            h = (1 - z) * torch.tanh(n_x + r * n_h) + z * h
            states.append(h)
        x_nD = torch.stack(states)
    return x_nD


@pytest.mark.parametrize("candidates", [False, True])
def test_it_is_the_equations_of_its_docstring(candidates: bool) -> None:
    """Outputs and the gradients of all weights are those of a loop, to 1e-10."""
    made = encoder()
    check_against_loops(made, lambda x: by_hand(made, x), [6, 1, 4, 13], DIM, candidates=candidates)


def test_starting_weights_are_glorots_gate_by_gate() -> None:
    """Each gate's matrix uniform in +-sqrt(6 / 2D); biases begin at 0."""
    made = Encoder(ModelSettings(dim=64, layers=1), dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    layer = made.layers[0]
    assert isinstance(layer, Layer)
    bound = math.sqrt(6 / 128)
    for parameter in layer.gru.parameters():
        for gate in parameter.split(64):
            if gate.dim() == 1:
                assert not gate.any()
            else:
                assert 0.95 * bound < gate.abs().max() <= bound
