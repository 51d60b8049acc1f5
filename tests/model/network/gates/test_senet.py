import torch
from torch import Tensor

from tests.model.network.ranking_cases import One, assert_equals, dense, fields_of, mlp


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/gates/senet.py, pair by pair."""
    e = fields_of(one)
    squeezed = torch.stack([field.sum() / len(field) for field in e])
    gate = torch.relu(dense(model.excited, torch.relu(dense(model.squeezed, squeezed))))
    gated = [a * field for a, field in zip(gate, e, strict=True)]
    products = []
    for x, w in ((e, model.w_fields), (gated, model.w_gated)):
        products += [(x[i] @ w[i]) * x[j] for i in range(len(x)) for j in range(i + 1, len(x))]
    return mlp(model.mlp, torch.cat(products))


def test_senet_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("senet", literal, (0, 1, 4))
