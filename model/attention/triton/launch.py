"""Launches the Triton kernels as one differentiable function. Importing this file imports Triton.

L tokens, B sequences, H heads, N = max_len; P = head width padded to a power of two of at least 16.

Each kernel runs with the fixed configuration of block_sizes.py, since another block size is another order of sums; or,
if the batch is `tuned`, with the configuration that Triton measures to be the fastest for its shape.
"""
# mypy: disable-error-code="import-untyped"

from collections.abc import Callable
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.attention.bias_terms import BiasTerms
from model.attention.triton import backward, bias_backward, forward
from model.attention.triton.batch import ACTIVATIONS, BIASES, FusedBatch, interpreted
from model.attention.triton.block_sizes import Config, bias_block, configs, fixed, shares_of

_ACTIVATIONS: Final = {name: code for code, name in enumerate(ACTIVATIONS)}
_TYPES: Final = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_NO_BIAS, _BUCKETED, _FUNCTIONAL = range(len(BIASES))
_TIME_TERMS: Final = 128  # as in tile_ops.py
_KEY: Final = ("P_QK", "P_V", "ACTIVATION", "BIAS", "WINDOW", "TARGETS", "span")
_tuned: dict[Any, Any] = {}

Grid = Callable[[dict[str, Any]], tuple[int, ...]]


def launch_attention(
    q: Tensor, k: Tensor, v: Tensor, batch: FusedBatch, alpha: float, activation: str, bias: BiasTerms | None
) -> Tensor:
    """Return the attention, [L, H, d_v]; see api.attend_fused."""
    positions, times = (bias.positions, bias.times) if bias else (None, None)
    edges = bias.edges if bias else None
    out: Tensor = _Attention.apply(q, k, v, positions, times, edges, batch, alpha, activation)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    """Forward and backward; the backward computes all scores again, so only the inputs are saved."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        positions: Tensor | None,
        times: Tensor | None,
        edges: Tensor | None,
        batch: FusedBatch,
        alpha: float,
        activation: str,
    ) -> Tensor:
        """Return the outputs."""
        q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
        out = v.new_empty(v.shape)
        lse = q.new_empty(q.shape[:2], dtype=torch.float32) if activation == "softmax" else None
        arguments = _arguments(q, k, v, positions, times, edges, batch, alpha, activation)
        _launch(forward.forward, _rows_grid(batch, q), {**arguments, "Out": out, "Lse": _some(lse, q)}, batch.tuned)
        ctx.save_for_backward(q, k, v, positions, times, edges, out if lse is not None else None, lse)
        ctx.batch, ctx.alpha, ctx.activation = batch, alpha, activation
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of q, k, v and of both parts of the bias."""
        q, k, v, positions, times, edges, out, lse = ctx.saved_tensors
        batch, d_out = ctx.batch, gradients[0].contiguous()
        delta = None if lse is None else (out.float() * d_out.float()).sum(-1)
        arguments = _arguments(q, k, v, positions, times, edges, batch, ctx.alpha, ctx.activation)
        arguments |= {"dOut": d_out, "Lse": _some(lse, q), "Delta": _some(delta, q)}
        d_q, d_k, d_v = (x.new_empty(x.shape) for x in (q, k, v))
        _launch(backward.query_gradients, _rows_grid(batch, q), {**arguments, "dQ": d_q}, batch.tuned)
        _launch(backward.key_gradients, _keys_grid(batch, q), {**arguments, "dK": d_k, "dV": d_v}, batch.tuned)
        d_positions = d_times = None
        if positions is not None and times is not None and any(ctx.needs_input_grad[3:5]):
            d_positions, d_times = _bias_gradients(arguments, positions, times, batch)
        return d_q, d_k, d_v, d_positions, d_times, None, None, None, None


def _bias_gradients(
    arguments: dict[str, Any], positions: Tensor, times: Tensor, batch: FusedBatch
) -> tuple[Tensor, Tensor]:
    """Return the gradients of both parts of a bias from the sums of all programs."""
    block = bias_block(arguments)
    blocks = triton.cdiv(batch.longest, block)
    sums = _sums(bias_backward.history_sums, arguments, blocks, (block, block), batch.tuned)
    by_step = _history_steps(sums[0], batch.max_len)
    by_time = sums[1]
    if batch.targets is not None:
        sums = _sums(bias_backward.candidate_sums, arguments, 1 + blocks, (block,), batch.tuned)
        by_step = by_step + _candidate_steps(sums[0], batch.max_len)
        by_time = by_time + sums[1]
    d_times = torch.zeros_like(times, dtype=torch.float32)
    terms = min(len(times), _TIME_TERMS)
    d_times[:terms] = by_time[:terms]
    return by_step.to(positions.dtype), d_times.to(times.dtype)


def _sums(
    kernel: Any, arguments: dict[str, Any], blocks: int, shape: tuple[int, ...], tuned: bool
) -> tuple[Tensor, Tensor]:
    """Run a kernel of bias_backward.py; return the sums over the shares, [blocks, *shape] and [_TIME_TERMS]."""
    shares = shares_of(blocks)
    by_place = arguments["Q"].new_empty((blocks, shares, *shape), dtype=torch.float32)
    by_time = by_place.new_empty((blocks, shares, _TIME_TERMS))
    more = {"ByPlace": by_place, "ByTime": by_time, "shares": shares, "BLOCK": shape[0]}
    _launch(kernel, lambda meta: (blocks * shares,), {**arguments, **more}, tuned)
    return by_place.sum(1), by_time.sum((0, 1))


def _history_steps(by_place: Tensor, max_len: int) -> Tensor:
    """Return the gradient of the position table, [2N-1], from sums by block diagonal D, row r and key c, [D, r, c].

    The key of an element stands D * block + r - c places before its row. Rows are shifted against each other so that a
    column has one distance; then the part of each block diagonal that overlaps the one before is added there.
    """
    diagonals, block, _ = by_place.shape
    wide = torch.nn.functional.pad(by_place.flip(-1), (0, block)).flatten(1)
    by_offset = wide[:, : block * (2 * block - 1)].view(diagonals, block, -1).sum(1)  # column block-1 is offset 0
    by_distance = by_offset[:, block - 1 :].clone()
    by_distance[:-1, 1:] += by_offset[1:, : block - 1]
    return _placed(by_distance.flatten()[:max_len], max_len - 1, max_len)


def _candidate_steps(by_place: Tensor, max_len: int) -> Tensor:
    """Return the gradient of the position table, [2N-1], from sums of own keys [0] and by place before the end [1:]."""
    steps = _placed(by_place[1:].flatten()[: max_len - 1], max_len - 2, max_len)
    steps[max_len - 1] += by_place[0].sum()
    return steps


def _placed(by_distance: Tensor, first: int, max_len: int) -> Tensor:
    """Return a position table of zeros with these values at entries first, first - 1, ..."""
    steps = by_distance.new_zeros(2 * max_len - 1)
    steps[first + 1 - len(by_distance) : first + 1] = by_distance.flip(0)
    return steps


def _arguments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    positions: Tensor | None,
    times: Tensor | None,
    edges: Tensor | None,
    batch: FusedBatch,
    alpha: float,
    activation: str,
) -> dict[str, Any]:
    """Return the arguments of all kernels; a tensor that a kernel does not read may be any other one."""
    bias = _NO_BIAS if positions is None else _FUNCTIONAL if edges is None else _BUCKETED
    tensors = {"Offsets": batch.offsets, "Targets": _some(batch.targets, batch.offsets), "Clock": _some(batch.clock, q)}
    tensors |= {"Positions": _some(positions, q), "Times": _some(times, q), "Edges": _some(edges, q)}
    strides = {f"{name}_token": x.stride(0) for name, x in zip("qkv", (q, k, v), strict=True)}
    strides |= {f"{name}_head": x.stride(1) for name, x in zip("qkv", (q, k, v), strict=True)}
    numbers = {"tokens": batch.tokens, "sequences": len(batch.offsets) - 1, "heads": q.shape[1]}
    numbers |= {"longest": batch.longest, "span": triton.next_power_of_2(batch.longest), "window": batch.window}
    numbers |= {"max_len": batch.max_len, "D_QK": q.shape[2], "D_V": v.shape[2]}
    numbers |= {"P_QK": _padded(q.shape[2]), "P_V": _padded(v.shape[2])}
    kinds = {"ACTIVATION": _ACTIVATIONS[activation], "BIAS": bias}
    kinds |= {"WINDOW": batch.window > 0, "TARGETS": batch.targets is not None}
    dot = torch.float32 if interpreted() and q.dtype == torch.bfloat16 else q.dtype  # it multiplies bf16 as integers
    exact = torch.get_float32_matmul_precision() == "highest"
    types = {"DTYPE": _TYPES[q.dtype], "DOT": _TYPES[dot], "PRECISION": "tf32x3" if exact else "tf32"}
    scales = {"alpha": float(alpha), "inv_len": 1.0 / batch.max_len}
    return {"Q": q, "K": k, "V": v, **tensors, **strides, **numbers, **scales, **kinds, **types}


def _launch(kernel: Any, grid: Grid, arguments: dict[str, Any], tuned: bool) -> None:
    with torch.cuda.device_of(arguments["Q"]):  # type: ignore[no-untyped-call]
        if tuned and not interpreted():
            _autotuned(kernel, arguments)[grid](**arguments)
            return
        config = fixed(kernel.__name__, arguments)
        kernel[grid](**arguments, **config.blocks, num_warps=config.warps, num_stages=config.stages)


def _autotuned(kernel: Any, arguments: dict[str, Any]) -> Any:
    choices = configs(kernel.__name__, arguments)
    if (kernel, choices) not in _tuned:
        _tuned[kernel, choices] = triton.autotune([_triton_config(choice) for choice in choices], list(_KEY))(kernel)
    return _tuned[kernel, choices]


def _triton_config(config: Config) -> Any:
    return triton.Config(config.blocks, num_warps=config.warps, num_stages=config.stages)


def _rows_grid(batch: FusedBatch, q: Tensor) -> Grid:
    return lambda meta: (triton.cdiv(batch.longest, meta["BLOCK_M"]) * (len(batch.offsets) - 1) * q.shape[1],)


def _keys_grid(batch: FusedBatch, q: Tensor) -> Grid:
    return lambda meta: (triton.cdiv(batch.longest, meta["BLOCK_N"]) * (len(batch.offsets) - 1) * q.shape[1],)


def _padded(width: int) -> int:
    return max(16, int(triton.next_power_of_2(width)))


def _some(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    return stand_in if tensor is None else tensor
