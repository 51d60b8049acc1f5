"""Which targets of a micro-batch ask what: retrieval of what was liked, ranking of what was shown.

T = targets of the batch, P = those with a positive action (retrieval), N = those shown (ranking), A = actions with a
tower, K = negatives. A target is positive if any of its labels is not a negative action; an organic action is its own
label. Each positive of a request is a question of its own, asked where the request was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.micro_batch import Jagged
from stream.example import Kind, id_key


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Indices into the batch's targets, ascending, and the labels of those that are ranked."""

    positive: NDArray[np.intp]  # [P]
    shown: NDArray[np.intp]  # [N]
    labels: NDArray[np.bool_]  # [N, A]


class Chooser:
    """Sorts targets out by the actions that are configured; any other action is positive and has no tower."""

    def __init__(self, rank_actions: Sequence[str], negative_actions: Sequence[str]) -> None:
        self._ranked = [id_key(action) for action in rank_actions]
        self._negative = np.array([id_key(action) for action in negative_actions], np.uint64)

    def choose(self, batch: Jagged) -> Targets:
        """Give what is to be asked about the targets of a batch."""
        count = len(batch.positions)
        owner_l = np.repeat(np.arange(count), np.diff(batch.label_offsets))  # target of each label
        liked_l = ~np.isin(batch.labels, self._negative)
        shown = np.flatnonzero(batch.kinds[batch.positions] == Kind.IMPRESSION)
        labels_NA = np.zeros((len(shown), len(self._ranked)), np.bool_)
        for a, action in enumerate(self._ranked):
            labels_NA[:, a] = _any(owner_l[batch.labels == action], count)[shown]
        return Targets(np.flatnonzero(_any(owner_l[liked_l], count)), shown, labels_NA)


def _any(owners: NDArray[np.intp], count: int) -> NDArray[np.bool_]:
    """Say of each target whether it is among the owners."""
    found = np.zeros(count, np.bool_)
    found[owners] = True
    return found


def accidental_hits(
    rows_P: NDArray[np.int64], requests_P: NDArray[np.int64], negatives_K: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Say which negatives are a positive of the target's own request, itself or another, [P, K]."""
    if not len(rows_P):
        return np.zeros((0, len(negatives_K)), np.bool_)
    own_PK: NDArray[np.bool_] = rows_P[:, None] == negatives_K
    order = np.argsort(requests_P, kind="stable")
    first = np.flatnonzero(np.diff(requests_P[order], prepend=-1))
    if len(first) == len(rows_P):  # one positive a request
        return own_PK
    hit_RK: NDArray[np.bool_] = np.logical_or.reduceat(own_PK[order], first, axis=0)
    return hit_RK[np.searchsorted(requests_P[order[first]], requests_P)]
