"""Unit vectors of all items, by which these are scored; what has moved is renewed when it is asked for.

V = items, R = rows of the item table, F = rows of the feature table, W = most values of an item, D = width. A vector
moves with its item's own row and with those of its features' values. Scoring asks for all of them at every step, while
a step moves few rows: so they are kept, at the memory of the rows once more, and only those that moved are computed
again, to the bits that computing all of them gives. A value that most items have moves most of them; then all are
computed, block by block, so that what lies between the tables and the result stays in the processor's cache.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays.growable import have_room
from model.arrays.growable_tensors import lengthen_tensors
from model.arrays.jit import compiled
from model.data.item_features import ItemFeatures
from model.distributed.ranks import ALONE, Ranks
from model.network.item_vectors import item_vectors
from model.network.retrieval_loss import unit
from model.optim.embedding_table import EmbeddingTable

_BLOCK: Final = 4096  # items computed at once on a CPU


class UnitVectors:
    """The unit vectors; near zero they stay shorter.

    Args:
        items: Own rows of the items.
        features: Rows of their features' values.
        item_features: Which of these an item has, read at every call.
        ranks: The processes that share the items out among them; each has the vectors of its own, whose places are
            counted here, and all have all features.
    """

    def __init__(
        self, items: EmbeddingTable, features: EmbeddingTable, item_features: ItemFeatures, ranks: Ranks = ALONE
    ) -> None:
        self._items, self._features, self._item_features, self._ranks = items, features, item_features, ranks
        self._table_row_V: NDArray[np.int64] | None = None
        self._len = 0
        self._units = torch.empty_like(items.weight)  # [V and room for more, D]
        self._fresh = np.empty(0, np.bool_)  # [V and room for more] which of them are up to date
        self._item_moved, self._feature_moved = np.empty(0, np.bool_), np.empty(0, np.bool_)  # [R], [F] since then

    def grow(self, items: int, table_row_V: NDArray[np.int64] | None = None) -> None:
        """Have so many items.

        Args:
            items: V.
            table_row_V: Where items share rows: the row of each; None: each has its own.
        """
        self._table_row_V, self._len = table_row_V, max(self._len, self._ranks.own(items))
        if self._len > len(self._units):
            room = max(self._len, len(self._items.weight), 2 * len(self._units))
            lengthen_tensors(vars(self), room, "_units")
        have_room(vars(self), self._len, "_fresh")
        have_room(vars(self), len(self._items), "_item_moved")
        have_room(vars(self), len(self._features), "_feature_moved")

    def moved(self, items: NDArray[np.int64], features: NDArray[np.int64]) -> None:
        """Note which rows of the tables have moved."""
        if self._table_row_V is None:
            self._fresh[self._own(items)] = False
        else:
            self._item_moved[items] = True
        self._feature_moved[features] = True

    def renew_all(self) -> None:
        """Note that everything has moved."""
        self._fresh[:] = False

    @torch.no_grad()
    def first(self, items: int) -> Tensor:
        """Return the unit vectors of those of the first items that lie here, a view, [items, D]."""
        self._spread()
        items = self._ranks.own(items)
        stale = np.flatnonzero(~self._fresh[:items])
        if 2 * len(stale) > items:
            step = _BLOCK if self._units.device.type == "cpu" else items
            for start in range(0, items, step):
                at = slice(start, min(start + step, items))
                unit(self._vectors(np.arange(at.start, at.stop), self._items.weight[at]), out=self._units[at])
        elif len(stale):
            self._units.index_copy_(0, self._tensor(stale), unit(self._vectors(stale)))
        self._fresh[:items] = True
        return self._units[:items]

    def _spread(self) -> None:
        """Note which items have moved with rows that they share."""
        self._fresh[self._own(self._item_features.take_changed())] = False
        fresh = self._fresh[: self._len]
        if self._table_row_V is not None and self._item_moved.any():
            fresh &= ~self._item_moved[self._table_row_V[: self._len]]
            self._item_moved[:] = False
        if self._item_features.any and self._feature_moved.any():
            _spread(fresh, self._item_features.rows[self._ranks.rank :: self._ranks.count], self._feature_moved)
        self._feature_moved[:] = False

    def _vectors(self, items_n: NDArray[np.int64], own_nD: Tensor | None = None) -> Tensor:
        """Return the vectors of items, [n, D]; `own`: their rows where they have rows of their own."""
        if self._table_row_V is not None:
            own_nD = self._items.weight.index_select(0, self._tensor(self._table_row_V[items_n]))
        elif own_nD is None:
            own_nD = self._items.weight.index_select(0, self._tensor(items_n))
        if not self._item_features.any:
            return own_nD
        bags = self._item_features.bags(items_n * self._ranks.count + self._ranks.rank)
        return item_vectors(own_nD, self._features.rows, bags)

    def _own(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of those of some items that lie here."""
        return self._ranks.mine(items) // self._ranks.count

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(array, device=self._units.device)


@compiled
def _spread(fresh_V: NDArray[np.bool_], rows_VW: NDArray[np.int32], moved_F: NDArray[np.bool_]) -> None:
    """Set `fresh` to false for items with a value that has moved."""
    for v in range(min(len(fresh_V), len(rows_VW))):
        if fresh_V[v]:
            for w in range(rows_VW.shape[1]):
                if rows_VW[v, w] < 0:
                    break
                if moved_F[rows_VW[v, w]]:
                    fresh_V[v] = False
                    break
