"""Retrieval: cosine similarity by temperature, learnt by a sampled softmax with logQ correction.

T targets, K negatives, D width. With s(j) = q·j / temperature, both of unit length, and Q(j) = how often item j is
expected among the negatives (K q(j), model/negatives.py), the loss of a target with positive p is

    -log( exp(s(p) - log Q(p)) / (exp(s(p) - log Q(p)) + sum over negatives n, n != p, of exp(s(n) - log Q(n))) )

so that, where draws seldom repeat an item, s(j) = log P(j) + const is its minimum whatever q is: it asks which of p and
n was the positive, and q says how the others came there (candidate sampling, Bengio and Senécal, 2008; positives and
negatives corrected alike as in Yi et al., 2019, "Sampling-bias-corrected neural modeling"). A negative that is the
target's own positive is an accidental hit and is left out. With uniform q, log Q cancels: Meta's research loss.
"""

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
    own_T = (queries_TD * unit(positives_TD)).sum(-1) / temperature - log_q_T
    others_TK = queries_TD @ unit(negatives_KD).T / temperature - log_q_K
    scores = torch.cat((own_T[:, None], others_TK.masked_fill(hit_TK, -torch.inf)), 1)
    losses_T = torch.logsumexp(scores, 1) - own_T
    return losses_T.sum() / max(1, len(losses_T))
