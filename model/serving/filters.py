"""What a caller wants among the answers: lists of items, features of the catalogue, and diversity.

n candidates, D width, k wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.vocabulary import Vocabulary
from model.serving.names import Names
from model.serving.responses import QueryError, check_items
from stream.example import id_key

POOL: Final = 10  # candidates for each item wanted, among which a diverse answer is chosen
_LEAST_POOL: Final = 100
_NAMED: Final = 20  # names of features in a sentence


@dataclass(frozen=True, slots=True)
class Filters:
    """Which live items may be in an answer, and how unlike each other they should be.

    Raises:
        QueryError: A list, a feature or the diversity is refused.
    """

    allow: Sequence[str] | None = None
    """Ids of the only items that may; None: all may."""
    deny: Sequence[str] = ()
    """Ids of items that may not."""
    features: Sequence[str] = ()
    """name=value of the catalogue; an item needs all of them."""
    diversity: float = 0.0
    """0: the best; towards 1: those least like each other."""

    def __post_init__(self) -> None:
        if self.allow is not None and not self.allow:
            raise QueryError("allow names no item; leave it out for all items.")
        for name, ids in (("allow", self.allow), ("deny", self.deny)):
            if ids:
                check_items(ids, name)
        for feature in self.features:
            if not all(feature.partition("=")[::2]):
                raise QueryError(f"feature is {feature[:80]!r}; give name=value, such as genre=Drama.")
        if not 0 <= self.diversity <= 1:
            raise QueryError(f"diversity is {self.diversity}; give a number from 0 to 1.")

    def barred(self, names: Names, items: Vocabulary, live_V: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the rows that may not be in the answer; None where none is named."""
        if not (self.allow or self.deny or self.features):
            return None
        barred = [_rows(items, self.deny)]
        if self.allow:
            barred.append(np.setdiff1d(live_V, _rows(items, self.allow)))
        for feature in self.features:
            name, _, value = feature.partition("=")
            barred.append(np.setdiff1d(live_V, names.with_feature(name, value)))
        return np.unique(np.concatenate(barred))

    def why_few(self, names: Names, items: Vocabulary, live_V: NDArray[np.int64], left_out: int) -> str:
        """Return why few items are left or none: what in the filters nothing has, else how many pass.

        Args:
            names: Names of the snapshot.
            items: Its items.
            live_V: Rows of those that are live.
            left_out: How many are left out because the history has them.
        """
        for feature in self.features:
            name, _, value = feature.partition("=")
            if name not in names.feature_names:
                known = ", ".join(names.feature_names[:_NAMED]) or "none"
                return f"no item of the catalogue has a feature {name[:80]!r}; the features are: {known}"
            if not len(names.with_feature(name, value)):
                return f"no item of the catalogue has {feature[:80]!r}"
        if self.allow and not np.isin(_rows(items, self.allow), live_V).any():
            return "none of the items in allow is a live item of the snapshot"
        barred, rest = self.barred(names, items, live_V), "; those of the history are left out" if left_out else ""
        if barred is None:
            return f"the snapshot has {len(live_V):,} live items{rest}"
        passed = len(live_V) - int(np.isin(live_V, barred).sum())
        return f"{passed:,} of {len(live_V):,} live items pass the filters{rest}"


NO_FILTERS: Final = Filters()


def _rows(items: Vocabulary, ids: Sequence[str]) -> NDArray[np.int64]:
    rows = items.rows(np.array([id_key(text) for text in ids], np.uint64))
    return rows[rows >= 0]


def pool_size(k: int) -> int:
    """Return from how many candidates k diverse items are chosen."""
    return max(_LEAST_POOL, POOL * k)


def diverse(
    scores_n: NDArray[np.floating], vectors_nD: NDArray[np.float32], k: int, diversity: float
) -> NDArray[np.intp]:
    """Return the places of k candidates by maximal marginal relevance, in the order of choice.

    Each is the one with the most (1 - diversity) * score - diversity * cosine, where scores are scaled to [0, 1] and
    the cosine is that to the most similar one already chosen, at least 0 (Carbonell and Goldstein, 1998).

    Args:
        scores_n: Scores, best first.
        vectors_nD: Vectors of length one.
        k: Items wanted.
        diversity: From 0 (the order of the scores) to 1.
    """
    spread = float(scores_n[0] - scores_n[-1]) if len(scores_n) else 0.0
    relevance_n = (scores_n - scores_n[-1]) / spread if spread else np.zeros(len(scores_n))
    nearest_n, left_n = np.zeros(len(scores_n)), np.ones(len(scores_n), np.bool_)
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores_n)):
        value_n = np.where(left_n, (1 - diversity) * relevance_n - diversity * nearest_n, -np.inf)
        chosen.append(int(value_n.argmax()))
        left_n[chosen[-1]] = False
        cosine_n = vectors_nD @ vectors_nD[chosen[-1]]
        nearest_n = np.maximum(nearest_n, cosine_n)
    return np.array(chosen, np.intp)
