"""The fused kernels in the encoder: when they serve, and what they read of a layer's bias.

They serve on CUDA where Triton is installed and where, on this device and for this dtype and width, they have given
what the loops of attention/reference.py give (self_check.py, at first use). Else the plain path serves, in the same
numbers; a failed check is said once. FUSED_ATTENTION=0 in the environment turns them off. Under TRITON_INTERPRET=1 they
serve on the CPU too, slowly: for tests.
"""

import os
import warnings
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from model.attention.triton.batch import could_serve
from model.attention.triton.self_check import Case, check as self_check
from model.errors import ModelError

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


def _passes(case: Case, check: Callable[[Case], None] | None) -> bool:
    """Run the check; whatever goes wrong in it, plain PyTorch can go on, unless the device is lost."""
    try:
        (check or self_check)(case)
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
