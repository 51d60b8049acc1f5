import math

import torch
from torch import Tensor

from model.network.ranking.history import Histories
from tests.model.network.ranking_cases import (
    DIM,
    DOUBLE,
    One,
    assert_equals,
    assert_loss_equals,
    dense,
    gru,
    gru_step,
    mlp,
    softmax,
)


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/interest/dien.py, step by step."""
    states = gru(model.extractor, one.behaviours)
    weights = softmax([(h * dense(model.w_attention, one.candidate)).sum() for h in states])
    g = torch.zeros(DIM, dtype=DOUBLE)
    for h, weight in zip(states, weights, strict=True):
        gates = model.x_gates.weight, model.x_gates.bias, model.h_gates.weight, None
        z, new = gru_step(*gates, h, g)
        g = (1 - weight * z) * g + weight * z * new
    return mlp(model.mlp, torch.cat((g, one.candidate, one.profile)))


def literal_loss(model, ones: list[One], labels: Tensor, history: Histories) -> Tensor:
    """Add up the loss of every step of every request."""
    total, steps = torch.zeros((), dtype=DOUBLE), 0
    for one in ones[::2]:  # two candidates a request
        states = gru(model.extractor, one.behaviours)
        for k in range(1, len(states)):
            h, skipped = states[k - 1], one.skipped[k]
            total = total - torch.sigmoid((h * one.behaviours[k]).sum() / math.sqrt(DIM)).log()
            if skipped is not None:
                total = total - (1 - torch.sigmoid((h * skipped).sum() / math.sqrt(DIM))).log()
            steps += 1
    return total / steps


def test_dien_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("dien", literal, (0, 1, 4))


def test_its_auxiliary_loss_is_the_papers_with_impressions_for_negatives() -> None:
    """Value and gradients; a step without an impression before it has the first term alone."""
    assert_loss_equals("dien", literal_loss)
