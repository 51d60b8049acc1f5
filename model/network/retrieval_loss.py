"""Retrieval: cosine similarity over temperature, trained by a sampled softmax with logQ correction.

T targets, K negatives, D width. With s(j) = q·j / temperature, both of unit length, and Q(j) = K q(j), the expected
count of item j among the negatives (model/learning/negatives.py), the loss of a target with positive p is

    -log( (P + c) / (1 + c) )
    P = exp(s(p)) / (exp(s(p)) + sum over negatives n, n != p, of exp(s(n) - log Q(n)))

with c the odds that a target is noise, any of V items as likely as another, by V. So the gradient is that of -log P,
times P / (P + c): targets that cannot be foreseen move little. With c = 0 it is the softmax's.

The denominator's expectation is that of the softmax over all items, so with more negatives P and its gradient become
the full softmax's (importance sampling, Bengio and Senécal, 2008). The positive is there with certainty: to subtract
its log Q too, as where it is drawn with its batch (Yi et al., 2019), gives it another weight than it has (Khrylchenko
et al., 2025, "Correcting the LogQ correction"). A negative that is the target's own positive is an accidental hit and
is left out.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

_EPS = 1e-6  # smallest divisor of a vector, as in Meta's research code


def unit(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Return vectors of length one along the last dimension, in `out` if it is given; vectors near zero stay short."""
    return normalize(x, dim=-1, eps=_EPS, out=out)


def sampled_softmax(
    queries_TD: Tensor,
    positives_TD: Tensor,
    negatives_KD: Tensor,
    *,
    log_q_K: Tensor,
    hits: tuple[Tensor, Tensor],
    temperature: float,
    noise: float = 0.0,
) -> Tensor:
    """Return the mean loss over the targets, a scalar; 0 without targets.

    Args:
        queries_TD: Queries of unit length.
        positives_TD: Rows of the item table; they are normalised here.
        negatives_KD: Rows of the item table, shared by all targets; they are normalised here.
        log_q_K: The log Q of the negatives.
        hits: Targets and negatives, i64[n] each: this negative does not count for this target.
        temperature: The temperature of the softmax.
        noise: The odds that a target is noise, by the number of items.
    """
    queries, positives, negatives = queries_TD, unit(positives_TD), unit(negatives_KD)
    loss: Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        queries, positives, negatives, log_q_K, hits, temperature, noise
    )
    return loss


class _SampledSoftmax(torch.autograd.Function):
    """The loss of unit vectors, in one [T, K] array: scores, then weights; the backward is two products with it."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        p: Tensor,
        n: Tensor,
        log_q_K: Tensor,
        hits: tuple[Tensor, Tensor],
        temperature: float,
        noise: float,
    ) -> Tensor:
        """Return the mean over the targets; save the weights of the softmax."""
        own_T = (q * p).sum(-1) / temperature
        scores_TK = ((q / temperature) @ n.T).to(log_q_K.dtype)  # under autocast only the product is half precision
        weights_TK = scores_TK.sub_(log_q_K).index_put_(hits, scores_TK.new_tensor(-torch.inf))
        most_T = torch.maximum(own_T, weights_TK.amax(1))
        weights_TK.sub_(most_T[:, None]).exp_()
        own_weight_T = (own_T - most_T).exp()
        total_T = weights_TK.sum(1) + own_weight_T
        share_T = own_weight_T / total_T
        if noise:
            loss_T, part_T = math.log1p(noise) - (share_T + noise).log(), share_T / (share_T + noise)
        else:  # a share may be 0
            loss_T, part_T = total_T.log() + most_T - own_T, torch.ones_like(share_T)
        weights_TK.mul_((part_T / total_T)[:, None])
        scale = 1 / max(1, len(q))
        ctx.save_for_backward(q, p, n, weights_TK, part_T * (1 - share_T))
        ctx.scale = scale / temperature
        return loss_T.sum() * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the three kinds of vectors."""
        q, p, n, weights_TK, less_T = ctx.saved_tensors
        scale = grads[0] * ctx.scale
        less_T1 = (-less_T * scale)[:, None]
        return weights_TK @ (n * scale) + less_T1 * p, less_T1 * q, weights_TK.T @ (q * scale), *(None,) * 4
