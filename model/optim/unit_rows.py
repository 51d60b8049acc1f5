"""A table's rows scaled to length 1, kept beside it: every item is scored by its unit row.

V = rows, D = width. Scoring needs the unit vector of every live row at every step, while a step moves few rows. So only
new rows and those that moved are normalized again. This costs the memory of the rows once more.
"""

import torch
from torch import Tensor

from model.network.retrieval_loss import unit
from model.optim.embedding_table import EmbeddingTable


class UnitRows:
    """The unit vectors of a table's rows; after rows have moved, `refresh` must be called.

    Args:
        table: The table of the rows.
    """

    def __init__(self, table: EmbeddingTable) -> None:
        self._table = table
        self._len = 0
        self._unit = torch.empty_like(table.weight)  # [C, D]

    @torch.no_grad()
    def first(self, rows: int) -> Tensor:
        """Return the unit vectors of the first rows, a view, [rows, D]."""
        if len(self._unit) < rows:
            larger = torch.empty_like(self._table.weight)
            larger[: self._len] = self._unit[: self._len]
            self._unit = larger
        if self._len < rows:
            self._unit[self._len : rows] = unit(self._table.weight[self._len : rows])
            self._len = rows
        return self._unit[:rows]

    @torch.no_grad()
    def refresh(self, rows_U: Tensor) -> None:
        """Normalize rows that have moved."""
        self.first(len(self._table)).index_copy_(0, rows_U, unit(self._table.weight[rows_U]))
