"""Items by decayed popularity: the answer for a user of whom the snapshot knows nothing.

R rows of the item table, V live rows among them.
"""

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import under
from model.baselines.popularity import Popularity
from model.storage.snapshot import Snapshot


class Popular:
    """The popularity of a snapshot's items.

    Args:
        snapshot: The snapshot.
        rows: Number of items.
        live_V: Rows of the live items.
    """

    def __init__(self, snapshot: Snapshot, rows: int, live_V: NDArray[np.int64]) -> None:
        state = under("popularity.", snapshot.arrays)
        counts = Popularity.from_state(state).counts(int(state["at_ms"])) if "sums" in state else np.zeros(0)
        self.counts_R = np.pad(counts[:rows], (0, max(0, rows - len(counts))))
        self._best_first_V = live_V[np.argsort(-self.counts_R[live_V], kind="stable")]

    def topk(self, k: int, excluded: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the live rows with the largest counts, except the excluded ones, and their counts; ties by row."""
        first = self._best_first_V[: k + len(excluded)]
        rows = first[~np.isin(first, excluded)][:k]
        return rows, self.counts_R[rows]


def why_popular(tokens: int, known: int) -> str | None:
    """Return why the model cannot answer for a user, None if it can.

    Args:
        tokens: How many tokens the user has.
        known: How many of them the snapshot knows.
    """
    if not tokens:
        return "user unknown"
    return None if known else "the snapshot knows none of the user's tokens"
