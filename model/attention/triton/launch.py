"""Launches the Triton kernels as one differentiable function. Importing this file imports Triton.

L tokens, B sequences, H heads, N = max_len; P = head width padded to a power of two of at least 16.

Each kernel runs with the fixed configuration of block_sizes.py, since another block size is another order of sums; or,
if the batch is `tuned`, with the configuration that Triton measures to be the fastest for its shape.
"""
# mypy: disable-error-code="import-untyped"

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.attention.bias_terms import BiasTerms
from model.attention.triton import backward, bias_backward, forward
from model.attention.triton.batch import ACTIVATIONS, BIASES, FusedBatch, interpreted
from model.attention.triton.block_sizes import Config, configs, fixed, shares_of

_ACTIVATIONS: Final = {name: code for code, name in enumerate(ACTIVATIONS)}
_TYPES: Final = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_NO_BIAS, _BUCKETED, _FUNCTIONAL = range(len(BIASES))
_TIME_TERMS: Final = 128  # as in tile_ops.py
_KEY: Final = ("P_QK", "P_V", "ACTIVATION", "BIASED", "WINDOW", "TARGETS", "span")
_PAIRS: Final = 1 << 26  # of rows and keys in the buffer of a bias, unless one sequence has more
_LARGEST: Final = 128  # block size: a tile may reach that far beyond the buffer's last row
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
        arguments = _arguments(q, k, v, batch, alpha, activation) | {"Out": out, "Lse": _some(lse, q)}
        for part in _parts(q, positions, times, edges, batch):
            _launch(forward.attention, _rows_grid, arguments | part, batch.tuned)
        ctx.save_for_backward(q, k, v, positions, times, edges, out if lse is not None else None, lse)
        ctx.batch, ctx.alpha, ctx.activation = batch, alpha, activation
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of q, k, v and of both parts of the bias."""
        q, k, v, positions, times, edges, out, lse = ctx.saved_tensors
        batch, d_out = ctx.batch, gradients[0].contiguous()
        delta = None if lse is None else (out.float() * d_out.float()).sum(-1)
        arguments = _arguments(q, k, v, batch, ctx.alpha, ctx.activation)
        arguments |= {"dOut": d_out, "Lse": _some(lse, q), "Delta": _some(delta, q)}
        d_q, d_k, d_v = (x.new_empty(x.shape) for x in (q, k, v))
        sums = []
        for part in _parts(q, positions, times, edges, batch):
            both = arguments | part
            _launch(backward.query_gradients, _rows_grid, {**both, "dQ": d_q}, batch.tuned)
            _launch(backward.key_gradients, _keys_grid, {**both, "dK": d_k, "dV": d_v}, batch.tuned)
            if positions is not None and any(ctx.needs_input_grad[3:5]):
                sums.append(_bias_gradients(both | _bias_arguments(positions, times, edges, batch), batch))
        d_positions, d_times = (sum(x) for x in zip(*sums, strict=True)) if sums else (None, None)
        return d_q, d_k, d_v, d_positions, d_times, None, None, None, None


def _parts(
    q: Tensor, positions: Tensor | None, times: Tensor | None, edges: Tensor | None, batch: FusedBatch
) -> Iterator[dict[str, Any]]:
    """Yield the arguments that choose the sequences of one launch, after their bias is in the buffer."""
    sequences = len(batch.offsets) - 1
    if positions is None:
        yield {"Bias": q, "bias_row": 0, "BIASED": False, "first": 0, "sequences": sequences}
        return
    row = triton.cdiv(batch.longest, 64) * 64
    at_once = min(sequences, max(1, _PAIRS // row**2))
    buffer = q.new_empty((at_once * row + _LARGEST) * row + _LARGEST)
    arguments = _bias_arguments(positions, times, edges, batch)
    for first in range(0, sequences, at_once):
        part = {"Bias": buffer, "bias_row": row, "first": first, "sequences": min(at_once, sequences - first)}
        _launch(forward.pair_bias, _pairs_grid, arguments | part, batch.tuned)
        yield {**part, "BIASED": True}


def _bias_gradients(arguments: dict[str, Any], batch: FusedBatch) -> tuple[Tensor, Tensor]:
    """Return the gradients of both parts of a bias, of the sequences of one launch, from the sums of all programs."""
    positions, times, sequences = arguments["Positions"], arguments["Times"], arguments["sequences"]
    block = fixed("pair_slopes", arguments).m
    blocks = triton.cdiv(batch.longest, block)
    by_time = times.new_zeros((sequences * blocks**2, _TIME_TERMS), dtype=torch.float32)
    _launch(bias_backward.pair_slopes, _pairs_grid, {**arguments, "ByTime": by_time}, batch.tuned)
    block = fixed("place_sums", arguments).n
    blocks = triton.cdiv(batch.longest, block)
    shares = shares_of(blocks)
    by_place = by_time.new_empty((blocks, shares, block))
    sums = {**arguments, "ByPlace": by_place, "shares": shares}
    _launch(bias_backward.place_sums, lambda _: lambda meta: (blocks * shares,), sums, batch.tuned)
    d_positions = _placed(by_place.sum(1).flatten()[: batch.max_len], batch.max_len)
    d_times = torch.zeros_like(times, dtype=torch.float32)
    terms = min(len(times), _TIME_TERMS)
    d_times[:terms] = by_time.sum(0)[:terms]
    return d_positions.to(positions.dtype), d_times.to(times.dtype)


def _placed(by_distance: Tensor, max_len: int) -> Tensor:
    """Return the gradient of the position table, [2N-1], from sums by distance from 0 on."""
    steps = by_distance.new_zeros(2 * max_len - 1)
    steps[max_len - len(by_distance) : max_len] = by_distance.flip(0)
    return steps


def _arguments(q: Tensor, k: Tensor, v: Tensor, batch: FusedBatch, alpha: float, activation: str) -> dict[str, Any]:
    """Return the arguments of the kernels of attention; a tensor that a kernel does not read may be any other one."""
    strides = {f"{name}_token": x.stride(0) for name, x in zip("qkv", (q, k, v), strict=True)}
    strides |= {f"{name}_head": x.stride(1) for name, x in zip("qkv", (q, k, v), strict=True)}
    numbers = {"heads": q.shape[1], "D_QK": q.shape[2], "D_V": v.shape[2]}
    numbers |= {"P_QK": _padded(q.shape[2]), "P_V": _padded(v.shape[2])}
    dot = torch.float32 if interpreted() and q.dtype == torch.bfloat16 else q.dtype  # it multiplies bf16 as integers
    exact = torch.get_float32_matmul_precision() == "highest"
    types = {"DTYPE": _TYPES[q.dtype], "DOT": _TYPES[dot], "PRECISION": "tf32x3" if exact else "tf32"}
    scales = {"alpha": float(alpha), "inv_len": 1.0 / batch.max_len, "ACTIVATION": _ACTIVATIONS[activation]}
    return {"Q": q, "K": k, "V": v, **strides, **numbers, **scales, **types, **_shape(batch)}


def _bias_arguments(positions: Tensor, times: Tensor | None, edges: Tensor | None, batch: FusedBatch) -> dict[str, Any]:
    """Return the arguments of the kernel of a bias."""
    kind = _FUNCTIONAL if edges is None else _BUCKETED
    tensors = {"Clock": batch.clock, "Positions": positions, "Times": times, "Edges": _some(edges, positions)}
    return {**tensors, "tokens": batch.tokens, "max_len": batch.max_len, "BIAS": kind, **_shape(batch)}


def _shape(batch: FusedBatch) -> dict[str, Any]:
    tensors = {"Offsets": batch.offsets, "Targets": _some(batch.targets, batch.offsets)}
    numbers = {"longest": batch.longest, "span": triton.next_power_of_2(batch.longest), "window": batch.window}
    return {**tensors, **numbers, "WINDOW": batch.window > 0, "TARGETS": batch.targets is not None}


def _launch(kernel: Any, grid_of: Callable[[dict[str, Any]], Grid], arguments: dict[str, Any], tuned: bool) -> None:
    """Run a kernel with those of the arguments that it has, in its fixed blocks or the fastest ones."""
    given = {name: arguments[name] for name in kernel.arg_names if name in arguments}
    grid = grid_of(arguments)
    with torch.cuda.device_of(arguments["Offsets"]):  # type: ignore[no-untyped-call]
        if tuned and not interpreted():
            _autotuned(kernel, given)[grid](**given)
            return
        config = fixed(kernel.__name__, given)
        kernel[grid](**given, **config.blocks, num_warps=config.warps, num_stages=config.stages)


def _autotuned(kernel: Any, arguments: dict[str, Any]) -> Any:
    choices = configs(kernel.__name__, arguments)
    if (kernel, choices) not in _tuned:
        _tuned[kernel, choices] = triton.autotune([_triton_config(choice) for choice in choices], list(_KEY))(kernel)
    return _tuned[kernel, choices]


def _triton_config(config: Config) -> Any:
    return triton.Config(config.blocks, num_warps=config.warps, num_stages=config.stages)


def _rows_grid(arguments: dict[str, Any]) -> Grid:
    pairs = arguments["sequences"] * arguments["heads"]
    return lambda meta: (triton.cdiv(arguments["longest"], meta["BLOCK_M"]) * pairs,)


def _keys_grid(arguments: dict[str, Any]) -> Grid:
    pairs = arguments["sequences"] * arguments["heads"]
    return lambda meta: (triton.cdiv(arguments["longest"], meta["BLOCK_N"]) * pairs,)


def _pairs_grid(arguments: dict[str, Any]) -> Grid:
    blocks = partial(triton.cdiv, arguments["longest"])
    return lambda meta: (blocks(meta["BLOCK_M"]), blocks(meta["BLOCK_N"]), arguments["sequences"])


def _padded(width: int) -> int:
    return max(16, int(triton.next_power_of_2(width)))


def _some(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    return stand_in if tensor is None else tensor
