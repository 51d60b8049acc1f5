"""Vectors that items had when they died, for histories that still show them.

D = width, S = places taken so far. The newest deaths are kept in a ring: each takes the next place, which after so many
others it gives up to another one. An item that comes back leaves its place empty. So a place holds one vector until it
is taken again, and what is written of one moment differs from that of the next by the deaths between them.

    array of state(), kept in checkpoints and snapshots
    keys     u64  [S]    NO_KEY in an empty place
    vectors  f32  [S, D] zeros in an empty place
    deaths   i64  [1]    so far; this number, modulo the size of the ring, is the next place
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import have_room
from model.keys.key_table import KeyTable
from model.keys.lives import DEAD
from stream.example import NO_KEY


class FrozenVectors:
    """The ring.

    Args:
        dim: The width D.
        most: Deaths that are kept.

    >>> frozen = FrozenVectors(2, most=2)
    >>> frozen.keep(np.array([7, 8, 9], np.uint64), np.array([[1, 1], [2, 2], [3, 3]], np.float32))
    >>> places = frozen.rows(np.array([9, 7, 8], np.uint64))
    >>> frozen.vectors[places[[0, 2]]].tolist(), places[1].tolist()
    ([[3.0, 3.0], [2.0, 2.0]], -1)
    """

    def __init__(self, dim: int, most: int = DEAD) -> None:
        self.most, self._deaths = most, 0
        self._table = KeyTable()
        self._keys, self._vectors = np.empty(0, np.uint64), np.empty((0, dim), np.float32)

    def __len__(self) -> int:
        """Return the number of places taken so far, S."""
        return min(self._deaths, self.most)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vector in each place, a view, [S, D]."""
        return self._vectors[: len(self)]

    def rows(self, keys_n: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the place of each key's vector, -1 where there is none, [n]."""
        return self._table.rows(keys_n)

    def keep(self, keys_n: NDArray[np.uint64], vectors_nD: NDArray[np.float32]) -> None:
        """Keep the vectors of items that die now; none of them has one here.

        Args:
            keys_n: The items, each once.
            vectors_nD: Their vectors; those of the last `most` of them will do.
        """
        self._deaths += len(keys_n)
        keys_n, vectors_nD = keys_n[-self.most :], vectors_nD[-self.most :]
        at_n = np.arange(self._deaths - len(keys_n), self._deaths) % self.most
        have_room(vars(self), len(self), "_keys", "_vectors")
        self._empty(at_n)
        self._keys[at_n], self._vectors[at_n] = keys_n, vectors_nD
        self._table.add(keys_n, at_n)

    def forget(self, keys_n: NDArray[np.uint64]) -> None:
        """Drop the vectors of items that have come back; of others there is nothing to drop."""
        at_n = self.rows(keys_n)
        self._empty(at_n[at_n >= 0])

    def _empty(self, at_n: NDArray[np.int64]) -> None:
        gone = self._keys[at_n]
        self._table.remove(gone[gone != NO_KEY])
        self._keys[at_n], self._vectors[at_n] = NO_KEY, 0

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the table above; some are views, so write or copy them before the next call."""
        deaths = np.array([self._deaths], np.int64)
        return {"keys": self._keys[: len(self)], "vectors": self.vectors, "deaths": deaths}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds; one without arrays, of a run that kept none, empties the ring."""
        self._deaths = int(state["deaths"][0]) if state else 0
        self._keys = np.array(state.get("keys", self._keys[:0]))
        self._vectors = np.array(state.get("vectors", self._vectors[:0]))
        self._table, taken = KeyTable(), np.flatnonzero(self._keys != NO_KEY)
        self._table.add(self._keys[taken], taken)
