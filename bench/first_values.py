"""Learners whose new items begin otherwise than by chance, or learn faster at first: what cold_start.py compares.

B = items born in a micro-batch, R = rows of the item table, D = width. Nothing of this is in the product, since it did
not help (docs/cold-start.md).
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import ModelSettings, TrainSettings
from model.data.entity_index import IndexedBatch
from model.data.item_features import ALL, ItemFeatures
from model.learning.learner import Learner
from stream.example import Example

LAST: Final = 8  # items before it in the history, with which a new one is seen
FASTER_STEPS: Final = 10  # in which a higher rate of a row falls to the usual one

First = Literal["chance", "seen with", "catalogue"]


class ColdStartLearner(Learner):
    """A learner with other first values, or other rates of young rows.

    Args:
        model: Shape of the recommender.
        train: How it is tested and trained.
        first: Where a row begins: at chance; or half there and half at the mean of the rows of the items before it
            in the history (seen with), or of those that share values of the catalogue with it (catalogue).
        rate: Rate of a row's first step, in multiples of the usual one.
    """

    def __init__(self, model: ModelSettings, train: TrainSettings, first: First, rate: float) -> None:
        super().__init__(model, train, baselines=False)
        self._first = first
        self._values, self._having = ItemFeatures((ALL,)), dict[int, list[int]]()  # key of a value: rows that have it
        self._boost(rate)

    def _boost(self, rate: float) -> None:
        """Let rows of items begin with a higher rate."""
        table = self.weights.items
        usual = table.step

        def step(rows_U: Tensor, grad_UD: Tensor, lr: float) -> None:
            left_U1 = (1 - table._steps.index_select(0, rows_U)[:, None] / FASTER_STEPS).clamp(min=0)
            usual(rows_U, grad_UD, lr * (1 + (rate - 1) * left_U1))  # type: ignore[arg-type]

        if rate != 1:
            table.step = step  # type: ignore[method-assign]

    def _take_in(self, examples: Sequence[Example], *, count: bool = True) -> IndexedBatch:
        before = len(self.items)
        taken = super()._take_in(examples, count=count)
        born_B = np.concatenate((taken.renewed, np.arange(before, len(self.items))))
        if self._first != "chance" and len(born_B):
            self._begin(taken, born_B)
        return taken

    @torch.no_grad()
    def _begin(self, taken: IndexedBatch, born_B: NDArray[np.int64]) -> None:
        """Set the first values of new rows."""
        likes = self._seen_with(taken, born_B) if self._first == "seen with" else self._of_catalogue(born_B)
        weight = self.weights.items.weight
        means = [weight[rows].mean(0) if len(rows) else weight[row] for row, rows in zip(born_B, likes, strict=True)]
        weight[torch.as_tensor(born_B)] = (weight[torch.as_tensor(born_B)] + torch.stack(means)) / 2
        self.weights._units.moved(born_B, born_B[:0])

    def _seen_with(self, taken: IndexedBatch, born_B: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the rows of the last known items before the first token of each new one."""
        tokens, row_L = taken.batch.tokens, taken.batch.rows.items
        born = set(born_B.tolist())
        found: list[NDArray[np.int64]] = []
        for row in born_B.tolist():
            at = int(np.flatnonzero(row_L == row)[0])
            start = int(tokens.offsets[np.searchsorted(tokens.offsets, at, side="right") - 1])
            known = [other for other in row_L[start:at].tolist() if other >= 0 and other not in born]
            found.append(np.array(known[-LAST:], np.int64))
        return found

    def _of_catalogue(self, born_B: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the rows that share values with each new one, once for each value that they share."""
        found: list[NDArray[np.int64]] = []
        for row in born_B.tolist():
            item: Any = self.catalogue.get(int(self.items.keys[row]))
            keys = self._values.values(item.features)[0].tolist() if item else []
            found.append(np.array([other for key in keys for other in self._having.get(key, ())], np.int64))
            for key in keys:
                self._having.setdefault(key, []).append(row)
        return found
