"""Retrieval: cosine similarity over temperature, trained by a sampled softmax with logQ correction.

T targets, K negatives, D width. With s(j) = q·j / temperature, both of unit length, and Q(j) = K q(j), the expected
count of item j among the negatives (model/learning/negatives.py), the loss of a target with positive p is

    -log( exp(s(p)) / (exp(s(p)) + sum over negatives n, n != p, of exp(s(n) - log Q(n))) )

The denominator's expectation is that of the softmax over all items, so the gradient becomes the full softmax's as K
grows (importance sampling, Bengio and Senécal, 2008). The positive is there with certainty: to subtract its log Q too,
as where it is drawn with its batch (Yi et al., 2019), gives it another weight than it has (Khrylchenko et al., 2025,
"Correcting the LogQ correction"). A negative that is the target's own positive is an accidental hit and is left out.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

_EPS = 1e-6  # smallest divisor of a vector, as in Meta's research code


def unit(x: Tensor) -> Tensor:
    """Return vectors of length one along the last dimension; vectors near zero stay short."""
    return normalize(x, dim=-1, eps=_EPS)


def sampled_softmax(
    queries_TD: Tensor,
    positives_TD: Tensor,
    negatives_KD: Tensor,
    *,
    log_q_K: Tensor,
    hit_TK: Tensor,
    temperature: float,
) -> Tensor:
    """Return the mean loss over the targets, a scalar; 0 without targets.

    Args:
        queries_TD: Queries of unit length.
        positives_TD: Rows of the item table; they are normalised here.
        negatives_KD: Rows of the item table, shared by all targets; they are normalised here.
        log_q_K: The log Q of the negatives.
        hit_TK: Whether the negative does not count for this target, bool.
        temperature: The temperature of the softmax.
    """
    queries, positives, negatives = queries_TD, unit(positives_TD), unit(negatives_KD)
    loss: Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        queries, positives, negatives, log_q_K, hit_TK, temperature
    )
    return loss


class _SampledSoftmax(torch.autograd.Function):
    """The loss of unit vectors, in one [T, K] array: scores, then weights; the backward is two products with it."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, p: Tensor, n: Tensor, log_q_K: Tensor, hit_TK: Tensor, temperature: float
    ) -> Tensor:
        """Return the mean over the targets; save the weights of the softmax."""
        own_T = (q * p).sum(-1) / temperature
        scores_TK = ((q / temperature) @ n.T).to(log_q_K.dtype)  # under autocast only the product is half precision
        weights_TK = scores_TK.sub_(log_q_K).masked_fill_(hit_TK, -torch.inf)
        most_T = torch.maximum(own_T, weights_TK.amax(1))
        weights_TK.sub_(most_T[:, None]).exp_()
        own_weight_T = (own_T - most_T).exp()
        total_T = weights_TK.sum(1) + own_weight_T
        weights_TK.div_(total_T[:, None])
        scale = 1 / max(1, len(q))
        ctx.save_for_backward(q, p, n, weights_TK, own_weight_T / total_T)
        ctx.scale = scale / temperature
        return (total_T.log() + most_T - own_T).sum() * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the three kinds of vectors."""
        q, p, n, weights_TK, own_weight_T = ctx.saved_tensors
        scale = grads[0] * ctx.scale
        less_T1 = ((own_weight_T - 1) * scale)[:, None]
        return weights_TK @ (n * scale) + less_T1 * p, less_T1 * q, weights_TK.T @ (q * scale), *(None,) * 3
