"""Which features an item has, predicted from a vector: InfoNCE over values of the catalogue.

n predictions, F rows of the feature table, V values that are compared with, m values of the items together, D width.
With f(q, a) = q·e_a, the loss of a prediction q whose item has the values A is the mean over a in A of

    -log( exp f(q, a) / (exp f(q, a) + sum over the V values b not in A of exp f(q, b)) )

and 0 where the item has no value.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from model.arrays.ranges import ranges
from model.arrays.take_rows import take_rows

if TYPE_CHECKING:
    from model.data.item_features import Bags

_NEVER: Final = -1e9  # score of a value that is not compared with; of -inf alone there would be no gradient


class Values(NamedTuple):
    """Values of n items, one item after the other, and what they are compared with; all index the feature table."""

    own: NDArray[np.int64]  # [m]
    owners: NDArray[np.int64]  # [m] the item of each
    counts: NDArray[np.int64]  # [n]
    others: NDArray[np.int64]  # [V] ascending
    hits: tuple[NDArray[np.int64], NDArray[np.int64]]  # items and others that are a value of the item


def values_of(bags: "Bags", at_n: NDArray[np.int64], negatives_K: NDArray[np.int64]) -> Values:
    """Return the values of items, and those of the negatives to compare with.

    Args:
        bags: The values of all items of a pass.
        at_n: The items, as places among these.
        negatives_K: The negatives, likewise.
    """
    counts = np.diff(bags.offsets)
    owner_m, place_m = ranges(bags.offsets[at_n], counts[at_n])
    own_m = bags.rows[place_m]
    others_V = np.unique(bags.rows[ranges(bags.offsets[negatives_K], counts[negatives_K])[1]])
    at_m = np.searchsorted(others_V, own_m)
    hit_m = at_m < len(others_V)
    hit_m[hit_m] = others_V[at_m[hit_m]] == own_m[hit_m]
    return Values(own_m, owner_m, counts[at_n], others_V, (owner_m[hit_m], at_m[hit_m]))


def value_loss(predicted_nD: Tensor, features_FD: Tensor, values: Values) -> Tensor:
    """Return the loss of each prediction, [n]."""
    own_m, owner_m, counts_n, others_V = (torch.as_tensor(array, device=features_FD.device) for array in values[:4])
    hits = tuple(torch.as_tensor(array, device=features_FD.device) for array in values.hits)
    scores_nV = predicted_nD @ take_rows(features_FD, others_V).T
    others_n = scores_nV.index_put(hits, scores_nV.new_tensor(_NEVER)).logsumexp(1)
    own_score_m = (take_rows(predicted_nD, owner_m) * take_rows(features_FD, own_m)).sum(1)
    loss_m = softplus(others_n[owner_m] - own_score_m) / counts_n[owner_m]
    return torch.zeros_like(others_n).index_add(0, owner_m, loss_m)
