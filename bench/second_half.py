"""Which tests count where recommenders are compared by the second half of a stream.

P = retrieval targets of a micro-batch. Not counted are targets without history, and those that the history already
has: items of the history are no candidates, so such a target cannot be found (train.exclude_seen).
"""

import numpy as np
from numpy.typing import NDArray

from model.data.candidates import Questions, exclude_seen


class SecondHalf:
    """Sums over the counted ranks.

    Args:
        examples: The number of examples of the whole stream.
    """

    def __init__(self, examples: int) -> None:
        self._start, self._seen = examples // 2, 0
        self._ranks: list[NDArray[np.float64]] = []

    def counted(self, questions: Questions, examples: int) -> NDArray[np.bool_]:
        """Return which targets of the next micro-batch, of so many examples, count, [P]."""
        late = self._seen >= self._start
        self._seen += examples
        _, question_n, row_n = exclude_seen(questions)
        counted_P: NDArray[np.bool_] = (questions.queries >= 0) & late
        counted_P[question_n[row_n == questions.targets[question_n]]] = False
        return counted_P

    def count(self, rank_n: NDArray[np.float64]) -> None:
        """Count the ranks of counted targets, inf for a miss."""
        self._ranks.append(rank_n)

    def figures(self) -> dict[str, float]:
        """Return HR@10, NDCG@10 and the number of targets."""
        ranks = np.concatenate(self._ranks)
        hit = ranks <= 10
        gains = hit / np.log2(1 + np.where(hit, ranks, 1))
        return {"hr10": float(hit.mean()), "ndcg10": float(gains.mean()), "targets": len(ranks)}
