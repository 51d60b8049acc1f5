"""A user's tokens as rows of a snapshot's tables.

n tokens, oldest first.
"""

from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from stream.example import Kind


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A user's tokens that the snapshot knows, oldest first."""

    items_n: NDArray[np.int64]  # rows of items, -1 for attributes and items without one
    features_n: NDArray[np.int64]  # rows of the feature table: attributes, and what stands in for such items; else -1
    actions_n: NDArray[np.int64]  # of the feature table, -1 where there is none or it is unknown
    ts_ms_n: NDArray[np.int64]
    kinds_n: NDArray[np.int64]
    _: KW_ONLY
    user: str = ""  # whose state is kept between requests; empty: nobody's

    def __len__(self) -> int:
        return len(self.items_n)

    def last(self, count: int) -> "History":
        """Return the last tokens, fewer if there are fewer."""
        start = max(0, len(self) - count)
        return History(*(column[start:] for column in self._columns()), user=self.user)

    def without(self, place: int) -> "History":
        """Return all tokens but one, as nobody's."""
        return History(*(np.delete(column, place) for column in self._columns()))

    def acted_on(self) -> NDArray[np.int64]:
        """Return the item rows of the actions."""
        rows: NDArray[np.int64] = self.items_n[(self.kinds_n == Kind.ACTION) & (self.items_n >= 0)]
        return rows

    def digest(self, count: int) -> bytes:
        """Return a digest of what decides the state of the first tokens: they, and the time of the next one."""
        columns = [column[:count] for column in self._columns()]
        return xxh3_128_digest(b"".join(map(np.ndarray.tobytes, (*columns, self.ts_ms_n[count : count + 1]))))

    def _columns(self) -> tuple[NDArray[np.int64], ...]:
        return self.items_n, self.features_n, self.actions_n, self.ts_ms_n, self.kinds_n
