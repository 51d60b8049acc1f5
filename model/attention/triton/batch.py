"""The shape of a jagged batch as the Triton kernels read it, and whether there are kernels for it.

L tokens, B sequences, N = max_len, E and V widths of rows. Nothing here imports Triton: on a CPU it is never needed.
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

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)


WIDEST: Final = 512  # bytes of a head's row: beyond, the tiles would not fit into a multiprocessor


_LOW_BITS: Final = 22


_tuning: Final = [False]


@dataclass(frozen=True, slots=True, eq=False)
class JaggedBatch:
    """The shape of one jagged batch, made once for all layers."""

    offsets: Tensor  # i64[B+1]
    targets: Tensor | None  # i64[B] candidates at the end of each sequence
    tokens: int
    longest: int  # tokens of the longest sequence, candidates counted
    max_len: int
    window: int
    clock: Tensor | None  # f32[4, L], of `clock_of`; None where there is no bias
    tuned: bool  # block sizes are to be found by measurement


def batch_of(
    offsets: Tensor,
    *,
    max_len: int,
    tokens: int,
    num_targets: Tensor | None = None,
    window: int = 0,
    clock: Tensor | None = None,
) -> JaggedBatch:
    """Give the batch, or raise ModelError as plan_tiles does."""
    bounds, _ = checked(offsets, tokens, num_targets, max_len, window)
    longest = int((bounds[1:] - bounds[:-1]).max(initial=0))
    return JaggedBatch(offsets, num_targets, tokens, longest, max_len, window, clock, _tuning[-1])


def clock_of(ts_ms_L: Tensor, asked_ms_L: Tensor) -> Tensor:
    """Give both times of each token as pairs of float32 that hold them exactly (up to 2**46 ms), [4, L]."""
    parts = [part for ms in (asked_ms_L, ts_ms_L) for part in (ms >> _LOW_BITS, ms & ((1 << _LOW_BITS) - 1))]
    return torch.stack(parts).to(torch.float32)


def could_serve(device: torch.device, dtype: torch.dtype, d_qk: int, d_v: int) -> bool:
    """Tell whether there are kernels for such tensors, apart from whether they are right on this device."""
    if device.type != "cuda" and not interpreted():
        return False
    return (
        dtype in DTYPES and max(d_qk, d_v) * dtype.itemsize <= WIDEST and importlib.util.find_spec("triton") is not None
    )


def interpreted() -> bool:
    """Tell whether Triton is to interpret kernels on the CPU, as tests of them do."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@contextmanager
def tuned() -> Iterator[None]:
    """Let the batches made here be served with the block sizes that are the fastest by measurement.

    Measuring takes seconds at every new shape, and what it finds decides the last bits of a result; without this, one
    choice per width serves.
    """
    _tuning.append(True)
    try:
        yield
    finally:
        _tuning.pop()
