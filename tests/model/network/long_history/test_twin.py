import math

import torch
from torch import Tensor

from tests.model.network.ranking_cases import One, assert_equals, bucket, dense, heads, mixed, mlp, softmax


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/long_history/twin.py, head by head."""
    q, parts = heads(dense(model.w_q, one.candidate)), []
    keys = [heads(dense(model.w_k, e)) for e in one.behaviours]
    values = [heads(dense(model.w_v, e)) for e in one.behaviours]
    for h, own in enumerate(q):
        alpha = []
        for k, (item, age) in enumerate(zip(one.items, one.ages, strict=True)):
            cross = model.age_bias[bucket(age), h] + (model.same_bias[h] if item == one.item >= 0 else 0)
            alpha.append((own * keys[k][h]).sum() / math.sqrt(len(own)) + cross)
        best = sorted(range(len(alpha)), key=lambda k: -alpha[k].item())[:20]
        parts.append(mixed(softmax([alpha[k] for k in best]), [values[k][h] for k in best], len(own)))
    return mlp(model.mlp, torch.cat((dense(model.w_o, torch.cat(parts)), one.candidate, one.profile)))


def test_twin_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64; of 25 behaviours each head finds 20."""
    assert_equals("twin", literal)
