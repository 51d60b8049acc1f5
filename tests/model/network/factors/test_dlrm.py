import math

import torch
from torch import Tensor

from tests.model.network.ranking_cases import DIM, DOUBLE, One, assert_equals, fields_of, mlp


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/factors/dlrm.py, pair by pair."""
    ages = (one.ages[-1], one.ages[0]) if one.ages else (0.0, 0.0)
    counts = torch.tensor([math.log(1 + value) for value in (len(one.ages), *ages)], dtype=DOUBLE)
    z = [torch.relu(mlp(model.bottom, counts)), *fields_of(one)]
    pairs = [(z[i] * z[j]).sum() / math.sqrt(DIM) for i in range(len(z)) for j in range(i + 1, len(z))]
    return mlp(model.top, torch.cat((z[0], torch.stack(pairs))))


def test_dlrm_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("dlrm", literal, (0, 1, 4))
