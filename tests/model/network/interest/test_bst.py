import torch
from torch import Tensor

from tests.model.network.ranking_cases import DIM, DOUBLE, One, assert_equals, attention, bucket, dense, mlp


def norm(layer: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.sum() / len(x)
    return centred / (centred.square().sum() / len(x) + layer.eps).sqrt() * layer.weight + layer.bias


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/interest/bst.py, row by row."""
    past = [e + model.ages[bucket(age)] for e, age in zip(one.behaviours, one.ages, strict=True)]
    rows = [one.candidate + model.ages[0], *reversed(past)]
    q, k, v = ([part @ row for row in rows] for part in model.w_qkv.weight.chunk(3))
    outputs = []
    for n, row in enumerate(rows):
        s = norm(model.norm_1, row + dense(model.w_out, attention(q[n], k, v)))
        inner = dense(model.w_1, s)
        inner = torch.where(inner > 0, inner, 0.01 * inner)
        outputs.append(norm(model.norm_2, s + dense(model.w_2, inner)))
    missing = torch.zeros((model.behaviours + 1 - len(rows)) * DIM, dtype=DOUBLE)
    return mlp(model.mlp, torch.cat((*outputs, missing, one.profile)))


def test_bst_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("bst", literal, (0, 1, 4))
