import torch
from torch import Tensor

from tests.model.network.ranking_cases import One, assert_equals, dense, fields_of, mean, mlp


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/gates/ppnet.py, layer by layer."""
    h = torch.cat(fields_of(one))
    prior = torch.cat((mean(one.behaviours) + one.profile, one.candidate, h.detach()))
    for layer, gate in zip(model.layers, model.gates, strict=True):
        h = 2 * torch.sigmoid(mlp(gate, prior)) * torch.relu(dense(layer, h))
    return dense(model.out, h)


def test_ppnet_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64; none flows through the gates into x."""
    assert_equals("ppnet", literal, (0, 1, 4))
