"""The fused kernels as functions of a batch. The modules that import Triton are imported at the first call."""

from collections.abc import Sequence

from torch import Tensor

from model.attention.bias_terms import BiasTerms
from model.attention.triton.batch import FusedBatch


def attend_fused(
    q: Tensor, k: Tensor, v: Tensor, batch: FusedBatch, alpha: float, activation: str, bias: BiasTerms | None = None
) -> Tensor:
    """Return the attention of a batch, [L, H, d_v], with gradients for q, k, v and the bias.

    Args:
        q: Queries, [L, H, d_qk], in one of DTYPES; any strides whose last is 1 are read without a copy.
        k: Keys, like q.
        v: Values, [L, H, d_v], like q.
        batch: What `fused_batch` made, with a clock if there is a bias.
        alpha: Scale of the products.
        activation: Name of the activation, one of batch.ACTIVATIONS.
        bias: Terms of the bias, shared by the heads.
    """
    if not batch.tokens:
        return v + (q.sum() + k.sum())  # empty, yet of the graph
    from model.attention.triton.launch import launch_attention

    return launch_attention(q, k, v, batch, alpha, activation, bias)


def silu_parts(z_LE: Tensor, widths: Sequence[int]) -> tuple[Tensor, ...]:
    """Return silu(z) split into four parts of these widths; one kernel computes the gradient of z."""
    from model.attention.triton import gate

    return gate.silu_parts(z_LE, widths)


def norm_gate(u_LV: Tensor, o_LV: Tensor, eps: float) -> Tensor:
    """Return u * norm(o) in their dtype, rounded once, [L, V]; norm is a LayerNorm of rows without weights."""
    from model.attention.triton import gate

    return gate.norm_gate(u_LV, o_LV, eps)
