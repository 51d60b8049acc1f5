"""The encoder's layers on the CPU: attention, products with weights, norms and gates in compiled loops.

L tokens, B sequences, S layers, D width of x, E = 2 * H * (d_v + d_qk) width of z = norm(x) @ w_uvqk, N = max_len.
float32, no candidates; layers.py has the formulas. Each layer's x, z and o are saved for the backward, which computes
the rest again. Sequences are divided among as many threads as PyTorch has. A thread takes its own through all layers
and sums its own part of the weights' gradients; the parts are added in the order of the threads. So the bits depend
only on the batch and on the number of threads.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from model.attention.bias_terms import BiasTerms
from model.attention.cpu import bias as cpu_bias, layers as cpu_layers
from model.attention.cpu.dispatch import ACTIVATIONS, BIASES
from model.attention.cpu.layers import LayerWeights, SavedForBackward, ThreadShare, WeightGradients
from model.attention.cpu.row_ops import aligned
from model.attention.cpu.sequence import AttentionSpec, make_backward_buffers, make_buffers
from model.attention.cpu.simd import LANES
from model.attention.relative_bias import BUCKETS, time_buckets
from model.attention.tile_plan import checked
from model.errors import ModelError

_TIME_TERMS: Final = {cpu_bias.NONE: 0, cpu_bias.BUCKETED: BUCKETS, cpu_bias.FUNCTIONAL: 3}
_GROUP: Final = 128  # tokens of a group at most, unless one sequence is longer
_LINEAR: Final = 200  # pairs that cost as much as what a token costs by itself
_CELL_BITS: Final = 18  # low bits of a float32 gap that are dropped: 32 cells per doubling, narrower than a bucket
_CELLS: Final = (0x7F800000 >> _CELL_BITS) + 1  # up to infinity

_NO_TIMES: Final = (np.empty(0, np.uint8), np.empty((1, 0), np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class CompiledBatch:
    """What the loops read of one jagged batch; made once for all layers."""

    starts: NDArray[np.int64]  # [B+1]
    shares: tuple[ThreadShare, ...]  # one for each thread
    kind: int  # of bias, an index of BIASES
    phi: int  # an index of ACTIVATIONS
    max_len: int


@dataclass(frozen=True, slots=True)
class Heads:
    """The shape of every layer's heads."""

    count: int
    d_qk: int
    d_v: int
    alpha: float
    eps: float  # of every norm


class LayerParameters(Protocol):
    """One layer's weights, without its bias."""

    @property
    def w_uvqk(self) -> Tensor:
        """[D, E]."""

    @property
    def w_out(self) -> Tensor:
        """[D, V]."""

    @property
    def b_out(self) -> Tensor:
        """[D]."""


def compiled_batch(offsets: Tensor, *, max_len: int, tokens: int, activation: str) -> CompiledBatch:
    """Return a batch without a bias.

    Raises:
        ModelError: The offsets do not describe a batch, or a sequence is too long.
    """
    starts, _ = checked(offsets, tokens, None, max_len, 0)
    lengths = np.diff(starts)
    pairs_B = lengths * (lengths + 1) // 2
    pair_starts = np.cumsum(pairs_B) - pairs_B
    shares = tuple(
        ThreadShare(own, _groups(lengths[own]), _tokens(starts, own), lengths, pair_starts, *_NO_TIMES)
        for own in _balance(pairs_B + _LINEAR * lengths, torch.get_num_threads())
    )
    return CompiledBatch(starts, shares, cpu_bias.NONE, ACTIVATIONS.index(activation), max_len)


def with_times(batch: CompiledBatch, ts_ms_L: Tensor, asked_ms_L: Tensor, bias: str) -> CompiledBatch:
    """Return the batch with the time bucket or the log gap of each pair, as the bias named `bias` needs it.

    Raises:
        ModelError: The times are not as many as the tokens, or not integers.
    """
    lengths, tokens = np.diff(batch.starts), int(batch.starts[-1])
    if len(ts_ms_L) != tokens or len(asked_ms_L) != tokens:
        raise ModelError(f"{len(ts_ms_L)} times and {len(asked_ms_L)} to look from were given for {tokens} tokens.")
    if ts_ms_L.is_floating_point() or asked_ms_L.is_floating_point():
        raise ModelError(f"Times are whole ms, not {ts_ms_L.dtype} and {asked_ms_L.dtype}.")
    pairs = int(lengths @ (lengths + 1)) // 2
    asked_s, ts_s = ((ms.double() / 1000).numpy() for ms in (asked_ms_L, ts_ms_L))
    if bias == "bucketed":
        field, found = "buckets", np.empty(pairs, np.uint8)
        cells, edges = gap_cells()

        def measure(share: ThreadShare) -> None:
            where, gaps = (share.sequences, batch.starts, share.pair_starts), np.empty(int(lengths.max()), np.float32)
            cpu_bias.measure_buckets(*where, found, asked_s, ts_s, gaps, cells, edges)
    else:
        field, found = "log_gaps", np.empty((1, pairs), np.float32)

        def measure(share: ThreadShare) -> None:
            cpu_bias.measure_log_gaps(share.sequences, batch.starts, share.pair_starts, found, asked_s, ts_s)

    _run_each(measure, batch.shares)
    return replace(
        batch, shares=tuple(share._replace(**{field: found}) for share in batch.shares), kind=BIASES.index(bias)
    )


def encode(
    x_LD: Tensor,
    batch: CompiledBatch,
    heads: Heads,
    layers: Sequence[LayerParameters],
    biases: Sequence[BiasTerms | None],
) -> Tensor:
    """Return the output of all layers, [L, D], with gradients for x and for every weight.

    Raises:
        ModelError: A tensor is not float32, or its shape does not fit the others.
    """
    nothing = x_LD.new_empty(0)
    if len(layers) != len(biases):
        raise ModelError(f"{len(layers)} layers of an encoder were given with {len(biases)} biases.")
    parts = {
        "w_uvqk": [own.w_uvqk for own in layers],
        "w_out": [own.w_out for own in layers],
        "b_out": [own.b_out for own in layers],
        "positions": [own.positions if own else nothing for own in biases],
        "times": [own.times if own else nothing for own in biases],
    }
    _check(x_LD, batch, heads, parts)
    trained = (x_LD, *(torch.stack(tensors) for tensors in parts.values()))
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in trained)
    out: Tensor = _Encode.apply(*trained, batch, heads, keep)  # type: ignore[no-untyped-call]
    return out


def _check(x_LD: Tensor, batch: CompiledBatch, heads: Heads, parts: dict[str, list[Tensor]]) -> None:
    """Refuse wrong tensors: compiled loops check no bounds."""
    dim, width = x_LD.shape[1], heads.count * heads.d_v
    wanted: dict[str, tuple[int, ...]] = {
        "x": (int(batch.starts[-1]), dim),
        "w_uvqk": (dim, 2 * (width + heads.count * heads.d_qk)),
        "w_out": (dim, width),
        "b_out": (dim,),
        "positions": (0 if batch.kind == cpu_bias.NONE else 2 * batch.max_len - 1,),
        "times": (_TIME_TERMS[batch.kind],),
    }
    for name, tensors in {"x": [x_LD], **parts}.items():
        for tensor in tensors:
            if tensor.dtype != torch.float32 or tuple(tensor.shape) != wanted[name]:
                found, shape = f"{tensor.dtype} {list(tensor.shape)}", list(wanted[name])
                raise ModelError(f"{name} of an encoder's layer is {found}; the batch and x ask for float32 {shape}.")


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_uvqk: Tensor,
        w_out: Tensor,
        b_out: Tensor,
        positions: Tensor,
        times: Tensor,
        batch: CompiledBatch,
        heads: Heads,
        keep: bool,
    ) -> Tensor:
        x = x.contiguous()
        out, layers, spec = torch.empty_like(x), len(b_out), _spec_of(batch, heads)
        rows = len(x) if keep else 0
        z, o = (aligned(layers, rows, width) for width in (w_uvqk.shape[2], w_out.shape[2]))
        saved = SavedForBackward(aligned(max(layers - 1, 1) if keep else 1, *x.shape), z, o)
        weights = LayerWeights(positions.numpy(), times.numpy(), weight_panels(w_uvqk), weight_panels(w_out.mT))
        args = (spec, weights, b_out.numpy(), x.numpy(), out.numpy(), saved, int(keep))
        buffers = (make_buffers(_widest(share), x.shape[1], spec) for share in batch.shares)
        _run_each(lambda share, buffers: cpu_layers.forward(share, *args, buffers), batch.shares, buffers)
        ctx.save_for_backward(x, w_uvqk, w_out, positions, times)
        ctx.saved = (batch, spec, saved)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w_uvqk, w_out, positions, times = ctx.saved_tensors
        batch, spec, saved = ctx.saved
        gx, g = torch.empty_like(x), g.contiguous()
        layers, d, e = w_uvqk.shape
        by_bucket = (cpu_bias.WAYS, times.shape[1])
        shapes = (_panel_shape(d, e), _panel_shape(d, w_out.shape[2]), (d,), positions.shape[1:], by_bucket)
        gradients = [
            WeightGradients(*(np.zeros((layers, *shape), np.float32) for shape in shapes)) for _ in batch.shares
        ]
        weights = LayerWeights(positions.numpy(), times.numpy(), weight_panels(w_uvqk.mT), weight_panels(w_out))
        args = (spec, weights, x.numpy(), saved, g.numpy(), gx.numpy())
        buffers = (make_backward_buffers(_widest(share), d, spec) for share in batch.shares)
        _run_each(lambda share, *own: cpu_layers.backward(share, *args, *own), batch.shares, gradients, buffers)
        totals = (torch.from_numpy(np.add.reduce(parts)) for parts in zip(*gradients, strict=True))
        g_uvqk, gw_out, gb_out, g_positions, g_times = totals
        gradients_of_weights = (_from_panels(g_uvqk, d, e), _from_panels(gw_out, d, w_out.shape[2]))
        return gx, *gradients_of_weights, gb_out, g_positions, g_times.sum(1), None, None, None


def _widest(share: ThreadShare) -> int:
    """Return the number of tokens of the largest group."""
    return int(np.add.reduceat(share.lengths[share.sequences], share.groups[:-1]).max())


def _spec_of(batch: CompiledBatch, heads: Heads) -> AttentionSpec:
    shape = (heads.count, heads.d_qk, heads.d_v, np.float32(heads.alpha), np.float32(heads.eps))
    return AttentionSpec(batch.kind, batch.phi, batch.max_len, *shape)


def weight_panels(w_SKC: Tensor) -> NDArray[np.float32]:
    """Return weights as tiles read them, [S, columns / LANES, K, LANES]."""
    layers, k, columns = w_SKC.shape
    padded = pad(w_SKC.detach(), (0, -columns % LANES))
    return padded.view(layers, k, -1, LANES).transpose(1, 2).contiguous().numpy()


def _panel_shape(rows: int, columns: int) -> tuple[int, int, int]:
    return (columns + LANES - 1) // LANES, (rows + LANES - 1) // LANES * LANES, LANES


def _from_panels(sums: Tensor, rows: int, columns: int) -> Tensor:
    """Return sums of the shape `_panel_shape` as [S, rows, columns]."""
    return sums.transpose(1, 2).flatten(2)[:, :rows, :columns]


def _tokens(starts: NDArray[np.int64], sequences: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of these sequences' tokens, one sequence after another."""
    lengths = starts[sequences + 1] - starts[sequences]
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1])) + np.repeat(starts[sequences + 1] - ends, lengths)


def _groups(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first sequence of each group, and the number of sequences."""
    firsts, tokens = [0], 0
    for at, length in enumerate(lengths.tolist()):
        if tokens and tokens + length > _GROUP:
            firsts.append(at)
            tokens = 0
        tokens += length
    return np.array([*firsts, len(lengths)])


def _balance(costs_B: NDArray[np.int64], threads: int) -> list[NDArray[np.int64]]:
    """Return the sequences of each thread: the most expensive first, each to the thread with the least work so far."""
    own: list[list[int]] = [[] for _ in range(threads)]
    sums = [0] * threads
    for b in np.argsort(-costs_B, kind="stable")[: np.count_nonzero(costs_B)].tolist():
        least = sums.index(min(sums))
        own[least].append(b)
        sums[least] += int(costs_B[b])
    return [np.array(sorted(sequences), np.int64) for sequences in own if sequences]


def _run_each(work: Callable[..., None], *items: Iterable[Any]) -> None:
    """Run the work on each item in parallel: the first in this thread, the others in the pool."""
    first, *rest = zip(*items, strict=True)
    others = [_pool(torch.get_num_threads()).submit(work, *item) for item in rest]
    work(*first)
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="encoder")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork does not copy threads


@cache
def gap_cells() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the bucket at the lower end of each cell of float32 gaps, and the lowest gap of each bucket.

    With them a pair's bucket equals that of `relative_bias.time_buckets`, to the bit, without a logarithm. The bits of
    floats of 0 or more are in the floats' order, so bisecting the bits finds an edge.
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
