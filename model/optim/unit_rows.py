"""The unit vectors of a table's rows, kept beside it: what every item is scored by.

V = rows, D = width. Scoring needs the direction of every live row at every step, while a step moves few rows: so only
those that moved are normalised again, and those that are new. It costs the memory of the rows once more.
"""

import torch
from torch import Tensor

from model.network.retrieval_loss import unit
from model.optim.embedding_table import EmbeddingTable


class Directions:
    """Directions of a table's rows; whoever moves rows says so.

    Args:
        table: whose rows they are.
    """

    def __init__(self, table: EmbeddingTable) -> None:
        self._table = table
        self._known = 0
        self._unit = torch.empty_like(table.weight)  # [C, D]

    @torch.no_grad()
    def first(self, rows: int) -> Tensor:
        """Give the directions of the first rows, a view, [rows, D]."""
        if len(self._unit) < rows:
            room = torch.empty_like(self._table.weight)
            room[: self._known] = self._unit[: self._known]
            self._unit = room
        if self._known < rows:
            self._unit[self._known : rows] = unit(self._table.weight[self._known : rows])
            self._known = rows
        return self._unit[:rows]

    @torch.no_grad()
    def moved(self, rows_U: Tensor) -> None:
        """Take in that these rows have changed."""
        self.first(len(self._table)).index_copy_(0, rows_U, unit(self._table.weight[rows_U]))
