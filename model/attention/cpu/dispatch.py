"""When the encoder uses the compiled loops.

Nothing here imports numba: where a GPU trains, it need not be installed.
"""

import os
from typing import Final

import torch
from torch import Tensor

ACTIVATIONS: Final = ("silu", "silu_seen", "softmax")  # the index is the loops' `phi`; code in row_ops.py
BIASES: Final = ("none", "bucketed", "functional")  # the index is the loops' `kind`; code in bias.py


def use_compiled(x: Tensor, num_targets: Tensor | None, *, activation: str, bias: str) -> bool:
    """Return whether there are loops for a batch: float32 on the CPU, no candidates, a token at least, known names."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    known = activation in ACTIVATIONS and bias in BIASES
    return plain and known and num_targets is None and len(x) > 0 and os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
