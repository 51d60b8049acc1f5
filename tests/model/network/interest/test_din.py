import torch
from torch import Tensor

from tests.model.network.ranking_cases import DIM, DOUBLE, One, assert_equals, dense


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/interest/din.py, behaviour by behaviour."""
    interest = torch.zeros(DIM, dtype=DOUBLE)
    for e in one.behaviours:
        x = torch.cat((e, one.candidate, e - one.candidate, e * one.candidate))
        interest = interest + dense(model.unit_out, prelu(dense(model.unit_in, x), model.slopes[0])) * e
    x = torch.cat((interest, one.candidate, one.profile))
    for n, layer in enumerate(model.layers):
        x = dense(layer, x)
        x = x if n == len(model.layers) - 1 else prelu(x, model.slopes[n + 1])
    return x


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.stack([value if value > 0 else s * value for value, s in zip(x, slope, strict=True)])


def test_din_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("din", literal, (0, 1, 4))
