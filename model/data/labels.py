"""Labels: which targets of a micro-batch are positives for retrieval, and which are ranked with which labels.

T = targets of the batch, P = those with a positive action (retrieval), N = those shown (ranking), A = actions with a
tower, K = negatives. A target is positive if any of its labels is not a negative action; an organic action is its own
label. Each positive of a request is a question of its own, asked at the request.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.arrays.ranges import ranges
from model.data.micro_batch import PackedBatch
from stream.example import Kind, id_key


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Indices into the batch's targets, ascending, and the labels of those that are ranked."""

    positive: NDArray[np.intp]  # [P]
    shown: NDArray[np.intp]  # [N]
    labels: NDArray[np.bool_]  # [N, A]

    def part(self, targets: slice) -> "Targets":
        """Return those among a stretch of the batch's targets, as indices into the stretch."""
        positive = slice(*np.searchsorted(self.positive, (targets.start, targets.stop)))
        shown = slice(*np.searchsorted(self.shown, (targets.start, targets.stop)))
        start = targets.start
        return Targets(self.positive[positive] - start, self.shown[shown] - start, self.labels[shown])


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
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which negatives are a positive of the target's own request, itself or another: targets and negatives.

    Rows are of one table, for positives and negatives alike. A pair is there as often as the request has that item.
    """
    positive_n, negative_n = _equal_pairs(rows_P, negatives_K)
    hit_n, target_n = _equal_pairs(requests_P[positive_n], requests_P)
    return target_n, negative_n[hit_n]


def _equal_pairs(a_n: NDArray[np.int64], b_m: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs of places at which two arrays have one value."""
    order = np.argsort(b_m, kind="stable")
    sorted_m = b_m[order]
    first_n = np.searchsorted(sorted_m, a_n, "left")
    count_n = np.searchsorted(sorted_m, a_n, "right") - first_n
    owner_h, at_h = ranges(first_n, count_n)
    return owner_h, order[at_h]
