import torch
from torch import Tensor

from tests.model.network.ranking_cases import One, assert_equals, attention, bucket, dense, mean, mlp


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/long_history/sim_hard.py: look up, then attend."""
    same = [k for k, item in enumerate(one.items) if item == one.item >= 0][-20:]
    z = [one.behaviours[k] + model.ages[bucket(one.ages[k])] for k in same]
    w = model.attention
    u = attention(dense(w.w_q, one.candidate), [dense(w.w_k, x) for x in z], [dense(w.w_v, x) for x in z])
    return mlp(model.mlp, torch.cat((u, mean(one.behaviours), one.candidate, one.profile)))


def test_hard_search_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("sim_hard", literal)
