"""Prequential evaluation: metrics of the model and of baselines on the same targets, before they learn from them.

P = retrieval targets of a micro-batch, N = ranking targets, A = actions with a tower. All metrics are kept over a
window of the latest targets and over the whole run (window.py); a checkpoint holds both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import prefixed, under
from model.evaluation.metrics import RankingTally, RetrievalTally
from model.evaluation.window import Window

MODEL: Final = "hstu"
ENCODER: Final = "encoder"  # the model without its counts
STACK: Final = "stack"  # its counts without the encoder
LOGISTIC: Final = "logistic"  # click probabilities from its counts, without the towers
SCORERS: Final = (MODEL, ENCODER, STACK, "popularity", "last_items")
RANKERS: Final = (MODEL, ENCODER, LOGISTIC)  # which have click probabilities


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The test of one micro-batch."""

    ranks: Mapping[str, NDArray[np.float64]]  # scorer: [P], inf for a miss
    slices: NDArray[np.intp]  # [P] age of the target, index into item_age.SLICES
    request_ms: NDArray[np.int64]  # [P]
    logits: Mapping[str, NDArray[np.floating]]  # ranker: [N, A]
    labels: NDArray[np.bool_]  # [N, A]
    rank_slices: NDArray[np.intp]  # [N]
    test_share: float = 1.0  # share of the retrieval targets that were drawn for it


class Prequential:
    """The metrics of one run.

    Args:
        actions: The actions with a ranking tower.
        window: The number of targets that the window covers.
    """

    def __init__(self, actions: Sequence[str], window: int) -> None:
        self._size = window
        self._test_share = 1.0  # of the last micro-batch
        self._ranking_empty = RankingTally(actions)
        self.retrieval = {scorer: Window(RetrievalTally(), window) for scorer in SCORERS}
        self.ranking = {ranker: Window(self._ranking_empty, window) for ranker in RANKERS}

    @property
    def targets(self) -> int:
        """The number of retrieval targets of the whole run."""
        return self.retrieval[MODEL].total.targets

    @property
    def rank_targets(self) -> int:
        """The number of ranking targets of the whole run."""
        return self.ranking[MODEL].total.targets

    def record(self, outcome: Outcome) -> None:
        """Count one micro-batch."""
        self._test_share = outcome.test_share
        for scorer, ranks_P in outcome.ranks.items():
            tally = RetrievalTally()
            tally.count(ranks_P, outcome.slices)
            self.retrieval[scorer].add(tally)
        for ranker, logits_NA in outcome.logits.items():
            ranking = self._ranking_empty.empty()
            ranking.count(logits_NA, outcome.labels, outcome.rank_slices)
            self.ranking[ranker].add(ranking)

    def as_dict(self) -> dict[str, Any]:
        """Return all metrics for JSON, by scorer, of the window and of the total; ranking also by action.

        With them the share of retrieval targets that is tested now.
        """
        return {
            "retrieval": {scorer: window.as_dict() for scorer, window in self.retrieval.items()},
            "ranking": {ranker: window.as_dict() for ranker, window in self.ranking.items()},
            "test_share": self._test_share,
        }

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all sums, for a checkpoint."""
        arrays: dict[str, NDArray[Any]] = {"test_share": np.array(self._test_share)}
        for ranker, tested in self.ranking.items():
            arrays |= prefixed(f"ranking.{ranker}.", tested.state())
        for scorer, window in self.retrieval.items():
            arrays |= prefixed(f"retrieval.{scorer}.", window.state())
        return arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the sums of a checkpoint."""
        self._test_share = float(state.get("test_share", 1.0))  # checkpoints of before tested all
        for ranker in RANKERS:
            own = under(f"ranking.{ranker}.", state)
            self.ranking[ranker] = Window.from_state(own, self._ranking_empty, self._size)
        for scorer in SCORERS:
            own = under(f"retrieval.{scorer}.", state)
            self.retrieval[scorer] = Window.from_state(own, RetrievalTally(), self._size)
