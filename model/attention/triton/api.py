"""The fused kernels as functions of a batch; the kernels themselves are imported when they are first wanted."""

from collections.abc import Sequence

from torch import Tensor

from model.attention.bias_terms import BiasTerms
from model.attention.triton.batch import JaggedBatch


def attend_fused(
    q: Tensor, k: Tensor, v: Tensor, batch: JaggedBatch, alpha: float, activation: str, bias: BiasTerms | None = None
) -> Tensor:
    """Give the attention of a batch, [L, H, d_v], with gradients for q, k, v and the bias.

    Args:
        q: [L, H, d_qk] in one of DTYPES; any strides whose last is 1 are read as they are.
        k: as q.
        v: [L, H, d_v].
        batch: of `batch_of`; with a bias it needs a clock.
        alpha: scale of the products.
        activation: a name in ACTIVATIONS.
        bias: shared by the heads.
    """
    if not batch.tokens:
        return v + (q.sum() + k.sum())  # empty, yet of the graph
    from model.attention.triton.launch import attend

    return attend(q, k, v, batch, alpha, activation, bias)


def silu_parts(z_LE: Tensor, widths: Sequence[int]) -> tuple[Tensor, ...]:
    """Give silu(z) cut into four parts of these widths, views of one tensor; their gradients meet in one kernel."""
    from model.attention.triton import gate

    return gate.silu_parts(z_LE, widths)


def norm_gate(u_LV: Tensor, o_LV: Tensor, eps: float) -> Tensor:
    """Give u * norm(o) in their dtype, rounded once, [L, V]: norm is a LayerNorm of rows without weights."""
    from model.attention.triton import gate

    return gate.norm_gate(u_LV, o_LV, eps)
