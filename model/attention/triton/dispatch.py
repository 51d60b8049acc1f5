"""The fused kernels in the encoder: when they serve, and what they read of a layer's bias.

They serve on CUDA where Triton is installed and where, on this device and for this dtype and width, they have given
what the loops of attention/reference.py give (self_check.py, at first use). Else the plain path serves, in the same
numbers; a failed check is said once. FUSED_ATTENTION=0 in the environment turns them off. Under TRITON_INTERPRET=1 they
serve on the CPU too, slowly: for tests.
"""

import os
import warnings
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

import torch
from torch import Tensor

from model.attention.relative_bias import BUCKETS, FunctionalBias, RelativeBias, time_buckets
from model.attention.triton.api import Bias, could_serve
from model.errors import ModelError


class Case(NamedTuple):
    """What a check is valid for."""

    device: torch.device
    dtype: torch.dtype
    d_qk: int
    d_v: int
    activation: str
    bias: str  # a name in bias.BIASES, or none
    heads: int  # of a layer: the rows around the attention are heads * d wide


_verdicts: Final[dict[Case, bool]] = {}


def serve(
    x: Tensor,
    *,
    width: int,
    heads: int,
    activation: str,
    bias: str,
    check: Callable[[Case], None] | None = None,
) -> bool:
    """Tell whether the fused kernels are to serve an encoder; the first time, find out.

    Args:
        x: an input of the encoder.
        width: of a head.
        heads: of a layer.
        activation: a name in ACTIVATIONS.
        bias: a name in bias.BIASES, or none.
        check: raises where the kernels are wrong; by default kernels_check.check.

    Raises:
        ModelError: the check left the device unusable.
    """
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    if os.environ.get("FUSED_ATTENTION") == "0" or not could_serve(x.device, dtype, width, width):
        return False
    case = Case(x.device, dtype, width, width, activation, bias, heads)
    if case not in _verdicts:
        _verdicts[case] = _passes(case, check)
    return _verdicts[case]


def bias_terms(bias: RelativeBias | FunctionalBias | None) -> Bias | None:
    """Give a layer's bias as the kernels read it; gradients flow back to the layer's parameters."""
    if bias is None:
        return None
    if isinstance(bias, RelativeBias):
        return Bias(bias.positions, bias.times.float(), lowest_gaps_ms(bias.times.device))
    times = torch.cat((bias.amplitude, torch.sigmoid(bias.power_logit), bias.log_scale))
    return Bias(bias.positions, times.float(), None)


@cache
def lowest_gaps_ms(device: torch.device) -> Tensor:
    """Give the lowest gap of each time bucket in ms, f32[BUCKETS + 1]: where `bias.time_buckets` on the CPU goes up.

    With it a kernel's buckets are the same on every device, whatever its logarithm. Found by bisection.
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


def _passes(case: Case, check: Callable[[Case], None] | None) -> bool:
    """Run the check; whatever goes wrong in it, plain PyTorch can go on, unless the device is lost."""
    from model.attention.triton.self_check import check as by_default

    try:
        (check or by_default)(case)
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        _refuse_lost(case.device, reason)
        warnings.warn(
            f"The fused attention kernels failed their check on {case.device} for {case.dtype} heads of {case.d_qk} "
            f"({case.activation}, bias {case.bias}): {reason}; attention goes on in plain PyTorch.",
            RuntimeWarning,
            stacklevel=4,
        )
        return False
    return True


def _refuse_lost(device: torch.device, reason: str) -> None:
    """Raise if nothing can run on the device any more in this process: so it is after a kernel's illegal access."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        raise ModelError(
            f"The fused attention kernels broke {device} for this process in their check: {reason}; start again with "
            "FUSED_ATTENTION=0 in the environment, for attention in plain PyTorch."
        ) from error
