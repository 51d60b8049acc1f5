import torch
from torch import Tensor

from tests.model.network.ranking_cases import One, assert_equals, fields_of, mixed, softmax


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/gates/mmoe.py, action by action, expert by expert."""
    x, logits = torch.cat(fields_of(one)), []
    experts = [
        torch.relu(torch.relu(x @ w_1 + b_1[0]) @ w_2 + b_2[0])
        for w_1, b_1, w_2, b_2 in zip(model.w_1, model.b_1, model.w_2, model.b_2, strict=True)
    ]
    for gate, t_1, c_1, t_2, c_2 in zip(model.gates, model.t_1, model.c_1, model.t_2, model.c_2, strict=True):
        shares = softmax([(x * column).sum() for column in gate.T])
        logits.append((torch.relu(mixed(shares, experts) @ t_1 + c_1[0]) @ t_2 + c_2[0])[0])
    return torch.stack(logits)


def test_mmoe_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("mmoe", literal, (0, 1, 4))
