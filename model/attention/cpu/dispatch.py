"""Whether the compiled loops serve a batch, and what they know.

Nothing here imports numba: where a GPU trains, it need not be there.
"""

import os
from typing import Final

import torch
from torch import Tensor

ACTIVATIONS: Final = ("silu", "silu_seen", "softmax")  # places are the loops' `phi`; row_ops.py has the code of each
BIASES: Final = ("none", "bucketed", "functional")  # places are the loops' `kind`; bias.py has the code of each


def use_compiled(x: Tensor, num_targets: Tensor | None, *, activation: str, bias: str) -> bool:
    """Return whether the loops serve: float32 on the CPU, no candidates, a token at least, and code for both names."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    known = activation in ACTIVATIONS and bias in BIASES
    return plain and known and num_targets is None and len(x) > 0 and os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
