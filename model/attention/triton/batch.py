"""A jagged batch as the Triton kernels read it, and for which tensors, activations and biases there are kernels.

L tokens, B sequences. Nothing here imports Triton: on a CPU it is never needed.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from model.attention.tile_plan import checked

ACTIVATIONS: Final = ("silu", "silu_seen", "softmax")  # the index is the kernels' ACTIVATION; code in tile_ops.py
BIASES: Final = ("none", "bucketed", "functional")  # the index is the kernels' BIAS; code in tile_ops.py
DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
WIDEST: Final = 512  # bytes of a head's row; tiles of wider ones would not fit into a multiprocessor
_LOW_BITS: Final = 22
_tuning: Final = [False]


@dataclass(frozen=True, slots=True, eq=False)
class FusedBatch:
    """The shape of one jagged batch, made once for all layers."""

    offsets: Tensor  # i64[B+1]
    targets: Tensor | None  # i64[B] candidates at the end of each sequence
    tokens: int
    longest: int  # tokens of the longest sequence, candidates counted
    max_len: int
    window: int
    clock: Tensor | None  # f32[4, L], of `clock_of`; None where there is no bias
    tuned: bool  # find block sizes by measurement


def fused_batch(
    offsets: Tensor,
    *,
    max_len: int,
    tokens: int,
    num_targets: Tensor | None = None,
    window: int = 0,
    clock: Tensor | None = None,
) -> FusedBatch:
    """Return the batch.

    Raises:
        ModelError: The arguments do not describe a batch, or a sequence is too long.
    """
    bounds, _ = checked(offsets, tokens, num_targets, max_len, window)
    longest = int((bounds[1:] - bounds[:-1]).max(initial=0))
    return FusedBatch(offsets, num_targets, tokens, longest, max_len, window, clock, _tuning[-1])


def clock_of(ts_ms_L: Tensor, asked_ms_L: Tensor) -> Tensor:
    """Return both times of each token as pairs of float32, exact up to 2**46 ms, [4, L]."""
    parts = [part for ms in (asked_ms_L, ts_ms_L) for part in (ms >> _LOW_BITS, ms & ((1 << _LOW_BITS) - 1))]
    return torch.stack(parts).to(torch.float32)


def kernels_exist(device: torch.device, dtype: torch.dtype, width: int, *, activation: str, bias: str) -> bool:
    """Return whether there are kernels for heads of this width; whether they are right is for self_check.py."""
    if device.type != "cuda" and not interpreted():
        return False
    known = activation in ACTIVATIONS and bias in BIASES and dtype in DTYPES and width * dtype.itemsize <= WIDEST
    return known and importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Return whether Triton interprets kernels on the CPU, as their tests let it do."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@contextmanager
def tuned() -> Iterator[None]:
    """Let batches that are made inside it use the block sizes that are the fastest by measurement.

    Measuring takes seconds at every new shape, and its choice decides the last bits of a result. Outside of it there is
    one fixed choice per width.
    """
    _tuning.append(True)
    try:
        yield
    finally:
        _tuning.pop()
