"""When the encoder uses the fused kernels.

They are used on CUDA if Triton is installed, if there are kernels for the activation and the bias, and if they have
agreed with the loops of attention/reference.py on this device, for this dtype and width (self_check.py, at first use).
Else plain PyTorch computes the same; a failed check is reported once. FUSED_ATTENTION=0 in the environment turns the
kernels off. Under TRITON_INTERPRET=1 they run on the CPU too, slowly: for tests.
"""

import os
import warnings
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from model.attention.triton.batch import kernels_exist
from model.attention.triton.self_check import Case, check as self_check
from model.errors import ModelError

_verdicts: Final[dict[Case, bool]] = {}


def use_fused(
    x: Tensor,
    *,
    width: int,
    heads: int,
    activation: str,
    bias: str,
    check: Callable[[Case], None] | None = None,
) -> bool:
    """Return whether an encoder uses the fused kernels; the first time, check them.

    Args:
        x: An input of the encoder.
        width: The width of a head.
        heads: The number of heads of a layer.
        activation: A name in activations.ACTIVATIONS.
        bias: A name in relative_bias.BIASES, or "none".
        check: Raises if the kernels are wrong; self_check.check by default.

    Raises:
        ModelError: The check left the device unusable.
    """
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    exist = kernels_exist(x.device, dtype, width, activation=activation, bias=bias)
    if os.environ.get("FUSED_ATTENTION") == "0" or not exist:
        return False
    case = Case(x.device, dtype, width, width, activation, bias, heads)
    if case not in _verdicts:
        _verdicts[case] = _passes(case, check)
    return _verdicts[case]


def _passes(case: Case, check: Callable[[Case], None] | None) -> bool:
    """Run the check; after any error in it plain PyTorch can go on, unless the device is lost."""
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
    """Raise ModelError if this process cannot use the device any more, as after a kernel's illegal access."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        raise ModelError(
            f"The fused attention kernels broke {device} for this process in their check: {reason}; start again with "
            "FUSED_ATTENTION=0 in the environment, for attention in plain PyTorch."
        ) from error
