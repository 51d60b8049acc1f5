"""One layer's relative bias as both kinds of kernels, cpu/ and triton/, read it."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from model.attention.relative_bias import BUCKETS, FunctionalBias, RelativeBias, time_buckets


@dataclass(frozen=True, slots=True, eq=False)
class BiasTerms:
    """One layer's bias as the kernels read it; relative_bias.py has the formulas."""

    positions: Tensor  # [2N-1]
    times: Tensor  # f32[129] by bucket; or f32[3]: amplitude, power, log_scale
    edges: Tensor | None  # f32[E] lowest gap of each bucket in ms; None for a functional bias


def bias_terms(bias: RelativeBias | FunctionalBias | None) -> BiasTerms | None:
    """Return a layer's bias as the kernels read it; gradients flow back to the layer's parameters."""
    if bias is None:
        return None
    if isinstance(bias, RelativeBias):
        return BiasTerms(bias.positions, bias.times.float(), lowest_gaps_ms(bias.times.device))
    times = torch.cat((bias.amplitude, torch.sigmoid(bias.power_logit), bias.log_scale))
    return BiasTerms(bias.positions, times.float(), None)


@cache
def lowest_gaps_ms(device: torch.device) -> Tensor:
    """Return the lowest gap of each time bucket in ms, f32[BUCKETS + 1]: where `time_buckets` on the CPU goes up.

    With it a kernel's buckets are the same on every device, whatever its logarithm is. Found by bisection.
    """
    wanted = torch.arange(BUCKETS + 1)
    below = torch.zeros_like(wanted)
    above = torch.full_like(wanted, 2**62)
    zero = torch.zeros(1, dtype=torch.float64)
    for _ in range(63):
        middle = below + (above - below) // 2
        reached = time_buckets(middle.double() / 1000, zero) >= wanted
        above, below = torch.where(reached, middle, above), torch.where(reached, below, middle)
    out = above.float()
    out[wanted == 0] = 0.0
    out[time_buckets(above.double() / 1000, zero) < wanted] = torch.inf
    return out.to(device)
