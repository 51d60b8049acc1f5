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
    attention,
    bucket,
    dense,
    mixed,
    mlp,
)


def relevance(model, one: One) -> list[Tensor]:
    a = dense(model.w_a, one.candidate)
    return [(dense(model.w_b, e) * a).sum() / math.sqrt(DIM) for e in one.behaviours]


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/long_history/sim_soft.py: find, then attend."""
    r = relevance(model, one)
    best = sorted(range(len(r)), key=lambda k: -r[k].item())[:20]
    z = [one.behaviours[k] + model.ages[bucket(one.ages[k])] for k in best]
    w = model.attention
    u = attention(dense(w.w_q, one.candidate), [dense(w.w_k, x) for x in z], [dense(w.w_v, x) for x in z])
    return mlp(model.mlp, torch.cat((u, one.candidate, one.profile)))


def literal_loss(model, ones: list[One], labels: Tensor, history: Histories) -> Tensor:
    """Add up the cross-entropy of the search, candidate by candidate."""
    total = torch.zeros((), dtype=DOUBLE)
    for one, wanted in zip(ones, labels, strict=True):
        u = mixed(relevance(model, one), one.behaviours)
        for logit, label in zip(mlp(model.gsu_mlp, torch.cat((u, one.candidate))), wanted, strict=True):
            p = torch.sigmoid(logit)
            total = total - (p.log() if label else (1 - p).log())
    return total / len(ones)


def test_soft_search_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64; of 25 behaviours 20 are found."""
    assert_equals("sim_soft", literal)


def test_the_search_learns_by_the_loss_of_its_own_logits() -> None:
    """Value and gradients."""
    assert_loss_equals("sim_soft", literal_loss)
