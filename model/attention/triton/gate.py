"""The operations around a layer's attention, each reading its tensors once: silu in four parts, and u * norm(o).

L tokens, E = widths of the four parts together, V = width of the gate's rows; P = the widest padded to a power of two.
A program has a few whole rows. Sums are float32, in an order that depends on the width alone; only inputs are saved for
the backward. Importing this file imports Triton.
"""
# mypy: disable-error-code="import-untyped,no-untyped-def,untyped-decorator"

from collections.abc import Sequence
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import silu

from model.attention.triton.tile_ops import load_rows, store_rows

_TILE: Final = 2048  # numbers of a program's rows: 16 a thread, until a row alone has more


@triton.jit
def rows_of(tokens, ROWS: tl.constexpr):
    """Return a program's rows (int64) and which of them exist."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    return rows, rows < tokens


@triton.jit
def norm_of(x, eps, V: tl.constexpr, P: tl.constexpr):
    """Return rows less their mean, divided by their deviation, and 1 / deviation; columns from V on are zero."""
    centred = tl.where((tl.arange(0, P) < V)[None, :], x - (tl.sum(x, 1) / V)[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / V + eps)
    return centred * scale[:, None], scale


@triton.jit
def through_silu(Z, dPart, dZ, rows, inside, z_row, part_row, E: tl.constexpr, D: tl.constexpr, P: tl.constexpr):
    """Write one part of dZ: its gradient times the slope of silu."""
    z = load_rows(Z, 0, rows, inside, z_row, D, P).to(tl.float32)
    d_part = load_rows(dPart, 0, rows, inside, part_row, D, P).to(tl.float32)
    share = tl.sigmoid(z)
    store_rows(dZ, d_part * share * (1 + z * (1 - share)), 0, rows, inside, E, D, P)


@triton.jit(do_not_specialize=["tokens"])
def silu_gradients(
    Z, dU, dV, dQ, dK, dZ, z_row, u_row, v_row, q_row, k_row, tokens,
    U: tl.constexpr, V: tl.constexpr, Q: tl.constexpr, K: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write dZ [L, E] from the gradients of the four parts, of widths U, V, Q, K."""
    rows, inside = rows_of(tokens, ROWS)
    E: tl.constexpr = U + V + Q + K
    through_silu(Z, dU, dZ, rows, inside, z_row, u_row, E, U, P)
    through_silu(Z + U, dV, dZ + U, rows, inside, z_row, v_row, E, V, P)
    through_silu(Z + (U + V), dQ, dZ + (U + V), rows, inside, z_row, q_row, E, Q, P)
    through_silu(Z + (U + V + Q), dK, dZ + (U + V + Q), rows, inside, z_row, k_row, E, K, P)


@triton.jit(do_not_specialize=["tokens"])
def gate(U, Out, Y, u_row, out_row, tokens, eps, V: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr):
    """Write Y [L, V] = U * norm(Out)."""
    rows, inside = rows_of(tokens, ROWS)
    u = load_rows(U, 0, rows, inside, u_row, V, P).to(tl.float32)
    normed, _ = norm_of(load_rows(Out, 0, rows, inside, out_row, V, P).to(tl.float32), eps, V, P)
    store_rows(Y, u * normed, 0, rows, inside, V, V, P)


@triton.jit(do_not_specialize=["tokens"])
def gate_gradients(
    U, Out, dY, dU, dOut, u_row, out_row, y_row, tokens, eps,
    V: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write dU and dOut [L, V]; the norm is computed again, since its rows are loaded anyway."""
    rows, inside = rows_of(tokens, ROWS)
    normed, scale = norm_of(load_rows(Out, 0, rows, inside, out_row, V, P).to(tl.float32), eps, V, P)
    d_y = load_rows(dY, 0, rows, inside, y_row, V, P).to(tl.float32)
    store_rows(dU, d_y * normed, 0, rows, inside, V, V, P)
    d_normed = d_y * load_rows(U, 0, rows, inside, u_row, V, P).to(tl.float32)
    mean, along = tl.sum(d_normed, 1) / V, tl.sum(d_normed * normed, 1) / V
    d_out = scale[:, None] * (d_normed - mean[:, None] - normed * along[:, None])
    store_rows(dOut, d_out, 0, rows, inside, V, V, P)


def silu_parts(z_LE: Tensor, widths: Sequence[int]) -> tuple[Tensor, ...]:
    """Return silu(z) in four parts; see api.silu_parts."""
    parts: tuple[Tensor, ...] = _SiluParts.apply(z_LE, tuple(widths))  # type: ignore[no-untyped-call]
    return parts


def norm_gate(u_LV: Tensor, o_LV: Tensor, eps: float) -> Tensor:
    """Return u * norm(o); see api.norm_gate."""
    y_LV: Tensor = _NormGate.apply(u_LV, o_LV, eps)  # type: ignore[no-untyped-call]
    return y_LV


class _SiluParts(torch.autograd.Function):
    """Forward by PyTorch, parts as views; backward by one kernel. The gradient of an unused part is zeros."""

    @staticmethod
    def forward(ctx: Any, z_LE: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return the parts."""
        ctx.save_for_backward(z_LE)
        ctx.widths = widths
        return silu(z_LE).split_with_sizes(widths, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of z."""
        z, *parts = (_read(x) for x in (*ctx.saved_tensors, *gradients))
        d_z = z.new_empty(z.shape)
        arguments: dict[str, Any] = {"Z": z, "dZ": d_z, "z_row": z.stride(0)}
        for name, part, width in zip("UVQK", parts, ctx.widths, strict=True):
            arguments |= {f"d{name}": part, f"{name.lower()}_row": part.stride(0), name: width}
        _launch(silu_gradients, z, max(ctx.widths), arguments)
        return d_z, None


class _NormGate(torch.autograd.Function):
    """One kernel for the forward, one for the backward."""

    @staticmethod
    def forward(ctx: Any, u_LV: Tensor, o_LV: Tensor, eps: float) -> Tensor:
        """Return the gated rows."""
        u, out = _read(u_LV), _read(o_LV)
        y = u.new_empty(u.shape)
        ctx.save_for_backward(u, out)
        ctx.arguments = {"u_row": u.stride(0), "out_row": out.stride(0), "eps": eps, "V": u.shape[1]}
        _launch(gate, u, u.shape[1], {"U": u, "Out": out, "Y": y, **ctx.arguments})
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of u and o."""
        u, out = ctx.saved_tensors
        d_y = _read(gradients[0])
        d_u, d_out = u.new_empty(u.shape), out.new_empty(out.shape)
        arguments = {"U": u, "Out": out, "dY": d_y, "dU": d_u, "dOut": d_out, "y_row": d_y.stride(0), **ctx.arguments}
        _launch(gate_gradients, u, u.shape[1], arguments)
        return d_u, d_out, None


def tile(width: int) -> dict[str, int]:
    """Return the options of a width: P, the rows of a program, its warps, and products that are rounded before a sum.

    Fused into the sum, a product less the mean of its row would not be zero in a row of one number.
    """
    padded = max(16, int(triton.next_power_of_2(width)))
    rows = max(1, _TILE // padded)
    return {"P": padded, "ROWS": rows, "num_warps": min(16, rows * padded // 512), "enable_fp_fusion": False}


def _launch(kernel: Any, x: Tensor, width: int, arguments: dict[str, Any]) -> None:
    """Run a kernel over the rows of x; without rows, launch nothing."""
    tokens, options = len(x), tile(width)
    if tokens:
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            kernel[(triton.cdiv(tokens, options["ROWS"]),)](**arguments, tokens=tokens, **options)


def _read(x: Tensor) -> Tensor:
    """Return a tensor as the kernels read it: contiguous within a row, with any distance between rows."""
    return x if x.stride(-1) == 1 else x.contiguous()
