import math

import torch
from torch import Tensor

from tests.model.network.ranking_cases import DIM, DOUBLE, One, assert_equals, mean, mlp


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/long_history/sdim.py, signature by signature."""

    def signature(x: Tensor, g: int) -> list[bool]:
        return [bool((x * model.hashes[:, 3 * g + bit]).sum() > 0) for bit in range(3)]

    parts = []
    for g in range(16):
        own, total = signature(one.candidate, g), torch.zeros(DIM, dtype=DOUBLE)
        for e in one.behaviours:
            if signature(e, g) == own:
                total = total + e
        length = total.square().sum().sqrt()
        parts.append(total / length if length > 0 else torch.zeros(DIM, dtype=DOUBLE))
    return mlp(model.mlp, torch.cat((mean(parts) * math.sqrt(DIM), one.candidate, one.profile)))


def test_sdim_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("sdim", literal)
