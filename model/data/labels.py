"""Labels: which targets of a micro-batch are positives for retrieval, and which are ranked with which labels.

T = targets of the batch, P = those with a positive action (retrieval), N = those shown (ranking), A = actions with a
tower, K = negatives. A target is positive if any of its labels is not a negative action; an organic action is its own
label. Each positive of a request is a question of its own, asked at the request.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.micro_batch import PackedBatch
from stream.example import Kind, id_key


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Indices into the batch's targets, ascending, and the labels of those that are ranked."""

    positive: NDArray[np.intp]  # [P]
    shown: NDArray[np.intp]  # [N]
    labels: NDArray[np.bool_]  # [N, A]


class TargetSelector:
    """Sorts targets by the configured actions; any other action is positive and has no tower."""

    def __init__(self, rank_actions: Sequence[str], negative_actions: Sequence[str]) -> None:
        self._ranked = [id_key(action) for action in rank_actions]
        self._negative = np.array([id_key(action) for action in negative_actions], np.uint64)

    def select(self, batch: PackedBatch) -> Targets:
        """Return the retrieval and the ranking targets of a batch."""
        count = len(batch.positions)
        owner_l = np.repeat(np.arange(count), np.diff(batch.label_offsets))  # target of each label
        liked_l = ~np.isin(batch.labels, self._negative)
        shown = np.flatnonzero(batch.kinds[batch.positions] == Kind.IMPRESSION)
        labels_NA = np.zeros((len(shown), len(self._ranked)), np.bool_)
        for a, action in enumerate(self._ranked):
            labels_NA[:, a] = _any(owner_l[batch.labels == action], count)[shown]
        return Targets(np.flatnonzero(_any(owner_l[liked_l], count)), shown, labels_NA)


def _any(owners: NDArray[np.intp], count: int) -> NDArray[np.bool_]:
    """Return whether each target is among the owners, [count]."""
    found = np.zeros(count, np.bool_)
    found[owners] = True
    return found


def accidental_hits(
    rows_P: NDArray[np.int64], requests_P: NDArray[np.int64], negatives_K: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which negatives are a positive of the target's own request, itself or another, [P, K].

    Rows are of one table, for positives and negatives alike.
    """
    if not len(rows_P):
        return np.zeros((0, len(negatives_K)), np.bool_)
    own_PK: NDArray[np.bool_] = rows_P[:, None] == negatives_K
    order = np.argsort(requests_P, kind="stable")
    first = np.flatnonzero(np.diff(requests_P[order], prepend=-1))
    if len(first) == len(rows_P):  # one positive a request
        return own_PK
    hit_RK: NDArray[np.bool_] = np.logical_or.reduceat(own_PK[order], first, axis=0)
    return hit_RK[np.searchsorted(requests_P[order[first]], requests_P)]
