"""Retrieval: cosine similarity by temperature, learnt by a sampled softmax with logQ correction.

T targets, K negatives, D width. With s(j) = q·j / temperature, both of unit length, and Q(j) = how often item j is
expected among the negatives (K q(j), model/learning/negatives.py), the loss of a target with positive p is

    -log( exp(s(p) - log Q(p)) / (exp(s(p) - log Q(p)) + sum over negatives n, n != p, of exp(s(n) - log Q(n))) )

so that, where draws seldom repeat an item, s(j) = log P(j) + const is its minimum whatever q is: it asks which of p and
n was the positive, and q says how the others came there (candidate sampling, Bengio and Senécal, 2008; positives and
negatives corrected alike as in Yi et al., 2019, "Sampling-bias-corrected neural modeling"). A negative that is the
target's own positive is an accidental hit and is left out. With uniform q, log Q cancels: Meta's research loss.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

_EPS = 1e-6  # least length that a vector is divided by, as in Meta's research code


def unit(x: Tensor) -> Tensor:
    """Give vectors of length one along the last dimension; near zero they stay short."""
    return normalize(x, dim=-1, eps=_EPS)


def sampled_softmax(
    queries_TD: Tensor,
    positives_TD: Tensor,
    negatives_KD: Tensor,
    *,
    log_q_T: Tensor,
    log_q_K: Tensor,
    hit_TK: Tensor,
    temperature: float,
) -> Tensor:
    """Give the mean loss over the targets, a scalar; 0 without targets.

    Args:
        queries_TD: of unit length.
        positives_TD: rows of the item table, normalised here.
        negatives_KD: likewise, shared by all targets.
        log_q_T: log Q of the positives.
        log_q_K: log Q of the negatives.
        hit_TK: bool, the negative is not to count for this target.
        temperature: of the softmax.
    """
    queries, positives, negatives = queries_TD, unit(positives_TD), unit(negatives_KD)
    loss: Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        queries, positives, negatives, log_q_T, log_q_K, hit_TK, temperature
    )
    return loss


class _SampledSoftmax(torch.autograd.Function):
    """The loss of unit vectors, in one [T, K] array: scores, then weights, of which the backward is two products."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, p: Tensor, n: Tensor, log_q_T: Tensor, log_q_K: Tensor, hit_TK: Tensor, temperature: float
    ) -> Tensor:
        """Give the mean over the targets; keep the weights of the softmax."""
        own_T = (q * p).sum(-1) / temperature - log_q_T
        scores_TK = ((q / temperature) @ n.T).to(log_q_K.dtype)  # under autocast the product alone is of half precision
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
        """Give the gradients of the three kinds of vectors."""
        q, p, n, weights_TK, own_weight_T = ctx.saved_tensors
        scale = grads[0] * ctx.scale
        less_T1 = ((own_weight_T - 1) * scale)[:, None]
        return weights_TK @ (n * scale) + less_T1 * p, less_T1 * q, weights_TK.T @ (q * scale), *(None,) * 4
