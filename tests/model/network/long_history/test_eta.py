import torch
from torch import Tensor

from tests.model.network.ranking_cases import One, assert_equals, attention, dense, mlp


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/long_history/eta.py: hash, find, attend."""

    def bits(x: Tensor) -> list[bool]:
        return [bool((x * column).sum() > 0) for column in model.hashes.T]

    own = bits(one.candidate)
    distances = [sum(a != b for a, b in zip(bits(e), own, strict=True)) for e in one.behaviours]
    best = sorted(range(len(distances)), key=lambda k: (distances[k], -k))[:20]
    z, w = [one.behaviours[k] for k in best], model.attention
    u = attention(dense(w.w_q, one.candidate), [dense(w.w_k, x) for x in z], [dense(w.w_v, x) for x in z])
    return mlp(model.mlp, torch.cat((u, one.candidate, one.profile)))


def test_eta_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64; of 25 behaviours 20 are found."""
    assert_equals("eta", literal)
