import torch
from torch import Tensor

from tests.model.network.ranking_cases import One, assert_equals, dense, mean, mlp


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/factors/ncf.py."""
    user = mean(one.behaviours) + one.profile
    gmf = dense(model.g_user, user) * dense(model.g_item, one.candidate)
    deep = mlp(model.mlp, torch.cat((dense(model.m_user, user), dense(model.m_item, one.candidate))))
    return dense(model.out, torch.cat((gmf, torch.relu(deep))))


def test_ncf_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("ncf", literal, (0, 1, 4))
