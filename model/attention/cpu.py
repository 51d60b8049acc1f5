"""The gated attention of a layer on the CPU, from z = uvqk before its SiLU to what the last projection reads.

    u, v, q, k = split(silu(z));  o = sum over j <= i of phi(alpha * q·k + bias) v;  y = u * norm(o)

L tokens, B sequences, E = width of z, D = H * d_v, N = max_len. In float32, without candidates; the loops are in
cpu_passes.py. Only z and o are kept for the backward, which computes all else anew, in the cache. Sequences are dealt
out to as many threads as PyTorch has; each adds up its own part of the bias's gradient, and the parts are added in the
order of the threads: the bits depend on the batch and on the number of threads alone.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.attention import cpu_passes
from model.attention.cpu_kernels import SILU, SILU_SEEN, SOFTMAX
from model.attention.fused import Bias
from model.attention.plan import checked

Measure = Callable[[Tensor, Tensor], Tensor]  # float64 seconds of rows and keys -> time bucket

_PHI: Final = {"silu": SILU, "silu_seen": SILU_SEEN, "softmax": SOFTMAX}
_LINEAR: Final = 200  # a token costs what so many pairs cost
_CELL_BITS: Final = 18  # of a float32 gap, dropped: 32 cells for each doubling, fewer than a bucket is wide
_CELLS: Final = (0x7F800000 >> _CELL_BITS) + 1  # up to infinity


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the passes read of one jagged batch, made once for all layers."""

    starts: NDArray[np.int64]  # [B+1]
    shares: tuple[NDArray[np.int64], ...]  # sequences of each thread
    pair_starts: NDArray[np.int64]  # [B]
    pairs: NDArray[np.float32]  # time bucket or log gap of each pair; empty without a bias
    kind: int
    phi: int
    max_len: int


@dataclass(frozen=True, slots=True)
class Heads:
    """The shape of one layer's heads."""

    count: int
    d_qk: int
    d_v: int
    alpha: float
    eps: float  # of norm(o)


def could_serve(x: Tensor, num_targets: Tensor | None) -> bool:
    """Tell whether a batch is one for these loops: float32 on the CPU, no candidates, a token at least."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and num_targets is None and len(x) > 0


def batch_of(offsets: Tensor, *, max_len: int, tokens: int, activation: str) -> Batch:
    """Give a batch without a bias, or raise ModelError as plan_tiles does."""
    starts, _ = checked(offsets, tokens, None, max_len, 0)
    lengths = np.diff(starts)
    pairs_B = lengths * (lengths + 1) // 2
    shares = _shares(pairs_B + _LINEAR * lengths, torch.get_num_threads())
    none = np.empty(0, np.float32)
    return Batch(starts, shares, np.cumsum(pairs_B) - pairs_B, none, cpu_passes.NONE, _PHI[activation], max_len)


def with_times(batch: Batch, ts_ms_L: Tensor, asked_ms_L: Tensor, time_buckets: Measure | None) -> Batch:
    """Give the batch with what the bias wants to know of each pair: its time bucket, or else its log gap."""
    lengths = np.diff(batch.starts)
    pairs = np.empty(int(lengths @ (lengths + 1)) // 2, np.float32)
    seconds = [(ms.double() / 1000).numpy() for ms in (asked_ms_L, ts_ms_L)]
    args: tuple[Any, ...] = (batch.starts, batch.pair_starts, pairs, *seconds)
    if time_buckets is None:
        _each(batch.shares, lambda share: cpu_passes.measure_log_gaps(share, *args))
        kind = cpu_passes.FUNCTIONAL
    else:
        args += _cells(time_buckets)
        _each(batch.shares, lambda share: cpu_passes.measure_buckets(share, *args))
        kind = cpu_passes.BUCKETED
    return Batch(batch.starts, batch.shares, batch.pair_starts, pairs, kind, batch.phi, batch.max_len)


def gated_attention(z_LE: Tensor, batch: Batch, heads: Heads, bias: Bias | None) -> Tensor:
    """Give y, [L, D], with gradients for z and for both parts of the bias."""
    nothing = z_LE.new_empty(0)
    positions, times = (bias.positions, bias.times) if bias else (nothing, nothing)
    y: Tensor = _Gated.apply(z_LE, positions, times, batch, heads)  # type: ignore[no-untyped-call]
    return y


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, positions: Tensor, times: Tensor, batch: Batch, heads: Heads) -> Tensor:
        z = z.contiguous()
        o, y = (z.new_empty(len(z), heads.count * heads.d_v) for _ in range(2))
        args = (*_arguments(batch, heads, positions, times), z.numpy(), o.numpy(), y.numpy())
        _each(batch.shares, lambda share: cpu_passes.forward(share, *args))
        ctx.save_for_backward(z, o, positions, times)
        ctx.batch, ctx.heads = batch, heads
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        z, o, positions, times = ctx.saved_tensors
        batch: Batch = ctx.batch
        gz = torch.empty_like(z)
        sums = [torch.zeros(len(batch.shares), len(table)) for table in (positions, times)]
        args: tuple[Any, ...] = _arguments(batch, ctx.heads, positions, times)
        args += (z.numpy(), o.numpy(), gy.contiguous().numpy(), gz.numpy())
        owns = [(share, *args, *(part[at].numpy() for part in sums)) for at, share in enumerate(batch.shares)]
        _each(owns, lambda own: cpu_passes.backward(*own))
        return gz, sums[0].sum(0), sums[1].sum(0), None, None


def _arguments(batch: Batch, heads: Heads, positions: Tensor, times: Tensor) -> tuple[Any, ...]:
    arrays = (batch.starts, batch.pair_starts, batch.pairs, positions.detach().numpy(), times.detach().numpy())
    shape = (batch.kind, batch.phi, batch.max_len, heads.count, heads.d_qk, heads.d_v)
    return *arrays, *shape, np.float32(heads.alpha), np.float32(heads.eps)


def _shares(costs_B: NDArray[np.int64], threads: int) -> tuple[NDArray[np.int64], ...]:
    """Deal sequences out, the dearest first, each to whoever has the least."""
    own: list[list[int]] = [[] for _ in range(threads)]
    sums = [0] * threads
    for b in np.argsort(-costs_B, kind="stable").tolist():
        least = sums.index(min(sums))
        own[least].append(b)
        sums[least] += int(costs_B[b])
    return tuple(np.array(sequences, np.int64) for sequences in own if sequences)


def _each(items: Sequence[Any], work: Callable[[Any], None]) -> None:
    """Do the work on each item, the first in this thread and the others beside it."""
    others = [_pool(len(items) - 1).submit(work, item) for item in items[1:]]
    for item in items[:1]:
        work(item)
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="attention")


@cache
def _cells(time_buckets: Measure) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Give the bucket at the lower end of each cell of float32 gaps, and the lowest gap of each bucket.

    With them a pair's bucket is the function's own, to the bit, without a logarithm. A float32 of 0 or more grows with
    its bits, so that bisecting these finds an edge.
    """

    def bucket(bits: NDArray[np.int32]) -> NDArray[np.int32]:
        gaps = torch.from_numpy(bits.view(np.float32)).double()
        return time_buckets(gaps, torch.zeros_like(gaps)).numpy()

    cells = bucket(np.arange(_CELLS, dtype=np.int32) << _CELL_BITS)
    wanted = np.arange(1, cells.max() + 1)
    below, above = np.zeros(len(wanted), np.int32), np.full(len(wanted), 0x7F7FFFFF, np.int32)
    while (above - below > 1).any():
        middle = below + (above - below) // 2
        reached = bucket(middle) >= wanted
        below, above = np.where(reached, below, middle), np.where(reached, middle, above)
    edges = np.concatenate(([0], above.view(np.float32), [np.finfo(np.float32).max]))
    return cells.astype(np.uint8), edges.astype(np.float32)
