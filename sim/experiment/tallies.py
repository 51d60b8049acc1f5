"""Metrics of one run, counted by hundredth of the stream and by item age.

prequential   every tested target of the stream, before it was learned
late          the targets of its last part, a tenth if nothing else is asked for
frozen        the last part again, by the weights as they were when it began
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.data.item_age import SLICES
from model.evaluation.metrics import METRICS, RetrievalTally
from sim.experiment.contestants import Tested
from sim.experiment.hundredths import BUCKETS, bucket_of

NAMES: Final = tuple(metric.column for metric in METRICS)


class Tallies:
    """Counts ranks; all sums are additive.

    Args:
        examples: The number of examples of the whole stream.
        late: The first bucket of its last part.
    """

    def __init__(self, examples: int, late: int) -> None:
        self._examples, self._late = examples, late
        self._tallies = [RetrievalTally() for _ in range(BUCKETS)]
        self._frozen = RetrievalTally()
        self._times = np.zeros((BUCKETS, 2))  # number and sum of request times, in seconds
        self.has_frozen = False

    def count(self, example: int, tested: Tested) -> None:
        """Count the targets of a micro-batch that begins at this example."""
        bucket = bucket_of(example, self._examples)
        self._tallies[bucket].count(tested.ranks, tested.slices)
        self._times[bucket] += len(tested.ranks), (tested.request_ms / 1000).sum()

    def count_frozen(self, tested: Tested) -> None:
        """Count targets tested by frozen weights."""
        self._frozen.count(tested.ranks, tested.slices)
        self.has_frozen = True

    def figures(self) -> dict[str, Any]:
        """Return the means of all three kinds, by their columns in runs.parquet."""
        late = _sum(self._tallies[self._late :])
        found = {"targets": (whole := _sum(self._tallies)).targets} | _means("", whole)
        found |= {"late_targets": late.targets} | _means("late_", late)
        frozen = _means("frozen_", self._frozen)
        empty = dict.fromkeys(("frozen_targets", *frozen))
        return found | ({"frozen_targets": self._frozen.targets} | frozen if self.has_frozen else empty)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of curves.parquet."""
        rows = []
        for bucket, tally in enumerate(self._tallies):
            number, total_s = self._times[bucket]
            time_ms = round(1000 * total_s / number) if number else None
            for name, sums in zip(SLICES, tally.arrays["sums"].tolist(), strict=True):
                if sums[0]:
                    figures = dict(zip(NAMES, sums[1:], strict=True))
                    rows.append({"bucket": bucket, "time_ms": time_ms, "age": name, "targets": int(sums[0])} | figures)
        return rows

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all sums, for a checkpoint."""
        sums = np.stack([tally.arrays["sums"] for tally in (*self._tallies, self._frozen)])
        return {"sums": sums, "times": self._times, "has_frozen": np.array(self.has_frozen)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the sums of a checkpoint."""
        *tallies, frozen = (RetrievalTally().with_arrays({"sums": np.array(sums)}) for sums in state["sums"])
        self._tallies, self._frozen = tallies, frozen
        self._times = np.array(state["times"])
        self.has_frozen = bool(state["has_frozen"])


def _sum(tallies: list[RetrievalTally]) -> RetrievalTally:
    total = RetrievalTally()
    for tally in tallies:
        total.add(tally)
    return total


def _means(prefix: str, tally: RetrievalTally) -> dict[str, float | None]:
    means = tally.figures()[-1].tolist() if tally.targets else [None] * len(NAMES)
    return {prefix + name: mean for name, mean in zip(NAMES, means, strict=True)}
