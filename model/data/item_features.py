"""Features of the catalogue by item row: the rows of the feature table that are added to an item's own row.

V = rows of the item vocabulary, W = most values of an item so far, n = items asked for, m = their values together. A
feature has values, each with a row of the feature table:

    text, boolean   itself
    number          its roundings down to 4, 6 and 8 significant bits (1998: 1920, 1984, 1992): on any scale, near
                    numbers share most of them
    list            the values of its entries

A text of more than MAX_BYTES has none, nor has what an item has beyond MAX_VALUES; `complaints` says so. An item's
vector is its row plus, for each feature in the order of names, the mean of its values' rows (network/item_vectors.py).

    array of state()
    rows      i32  [V, W] of the feature table, -1 where there is no further value
    weights   f32  [V, W] one over the number of the feature's values
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.growable import have_room
from model.arrays.jit import compiled
from model.data.catalogue import Features, Scalar
from stream.example import id_key

ALL: Final = "*"
BITS: Final = (4, 6, 8)
MAX_BYTES, MAX_VALUES = 64, 32


class Bags(NamedTuple):
    """The values of n items, one item after the other."""

    rows: NDArray[np.int64]  # [m] of the feature table
    weights: NDArray[np.float32]  # [m]
    offsets: NDArray[np.int64]  # [n + 1]


class ItemFeatures:
    """The values of every item.

    Args:
        names: Features that count; ALL among them: every one.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(names)
        self._ignored: dict[str, int] = {}  # feature: values without a row
        self._seen: set[str] = set()
        self._len = 0
        self._changed, self._any_changed = np.empty(0, np.bool_), False
        self._rows, self._weights = np.empty((0, 0), np.int32), np.empty((0, 0), np.float32)

    @property
    def used(self) -> bool:
        """Whether any feature counts."""
        return bool(self._names)

    @property
    def any(self) -> bool:
        """Whether any item has had a value so far."""
        return self._rows.shape[1] > 0

    def values(self, features: Features) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """Return the keys of an item's values, in the order of the features' names, and their weights, [m] each."""
        keys: list[int] = []
        weights: list[float] = []
        self._seen |= features.keys()
        for name in sorted(features):
            if name in self._names or ALL in self._names:
                found = list(dict.fromkeys(self._texts(name, features[name])))
                self._ignore(name, len(found[MAX_VALUES - len(keys) :]))
                found = found[: MAX_VALUES - len(keys)]
                keys += [id_key(f"\0item {name}{text}") for text in found]
                weights += [1 / max(1, len(found))] * len(found)
        return np.array(keys, np.uint64), np.array(weights, np.float32)

    def _texts(self, name: str, feature: Scalar | list[Scalar]) -> Iterator[str]:
        for entry in feature if isinstance(feature, list) else [feature]:
            if isinstance(entry, int | float) and not isinstance(entry, bool):
                yield from _roundings(entry)
            elif isinstance(entry, str) and len(entry.encode()) > MAX_BYTES:
                self._ignore(name, 1)
            elif entry is not None:
                yield f"={entry}" if isinstance(entry, str) else f":{entry}"

    def _ignore(self, name: str, count: int) -> None:
        if count:
            self._ignored[name] = self._ignored.get(name, 0) + count

    def complaints(self) -> dict[str, str]:
        """Return a sentence about each feature that counts less than it seems to, of those met since the start."""
        found = {
            name: f"Feature {name} of the catalogue: {count} values count for nothing, texts of more than {MAX_BYTES} "
            f"bytes or beyond the first {MAX_VALUES} values of an item; leave it out of model.item_features, or send "
            "less."
            for name, count in sorted(self._ignored.items())
        }
        there = ", ".join(sorted(self._seen))
        for name in sorted(self._names - self._seen - {ALL}) if there else ():
            found[name] = f"model.item_features names {name}, which no item has so far; the catalogue has {there}."
        return found

    def put(self, row: int, rows_m: NDArray[np.int64], weights_m: NDArray[np.float32]) -> None:
        """Set the values of an item."""
        self.grow(row + 1)
        if len(rows_m) > self._rows.shape[1]:
            more = ((0, 0), (0, len(rows_m) - self._rows.shape[1]))
            self._rows = np.pad(self._rows, more, constant_values=-1)
            self._weights = np.pad(self._weights, more)
        self._rows[row], self._weights[row] = -1, 0
        self._rows[row, : len(rows_m)], self._weights[row, : len(rows_m)] = rows_m, weights_m
        self._changed[row] = self._any_changed = True

    def grow(self, rows: int) -> None:
        """Have so many items, the new ones without values."""
        if rows > self._len:
            have_room(vars(self), rows, "_rows", "_weights", "_changed")
            self._rows[self._len : rows] = -1
            self._len = rows

    def clear(self, rows: NDArray[np.int64]) -> None:
        """Take the values of items away."""
        if not self.any:
            return
        self._rows[rows], self._weights[rows] = -1, 0
        self._changed[rows] = self._any_changed = True

    @property
    def rows(self) -> NDArray[np.int32]:
        """Row of each value of each item, -1 where there is no further one, a view, [V, W]."""
        return self._rows[: self._len]

    def take_changed(self) -> NDArray[np.int64]:
        """Return the items whose values have changed since the last call, ascending."""
        if not self._any_changed:
            return np.empty(0, np.int64)
        changed = np.flatnonzero(self._changed)
        self._changed[changed] = self._any_changed = False
        return changed

    def bags(self, rows_n: NDArray[np.int64]) -> Bags:
        """Return the values of items."""
        return Bags(*_bags(self._rows, self._weights, rows_n))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the table above, which are views."""
        return {"rows": self._rows[: self._len], "weights": self._weights[: self._len]}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds."""
        self._rows, self._weights = np.array(state["rows"]), np.array(state["weights"])
        self._len = len(self._rows)
        self._changed, self._any_changed = np.ones(self._len, np.bool_), True


@compiled
def _bags(
    rows_VW: NDArray[np.int32], weights_VW: NDArray[np.float32], rows_n: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return the fields of Bags."""
    width, m = rows_VW.shape[1], 0
    rows, weights = np.empty(len(rows_n) * width, np.int64), np.empty(len(rows_n) * width, np.float32)
    offsets = np.zeros(len(rows_n) + 1, np.int64)
    for n in range(len(rows_n)):
        for w in range(width):
            if rows_VW[rows_n[n], w] < 0:
                break
            rows[m], weights[m] = rows_VW[rows_n[n], w], weights_VW[rows_n[n], w]
            m += 1
        offsets[n + 1] = m
    return rows[:m], weights[:m], offsets


def _roundings(number: float) -> Iterator[str]:
    """Yield a number rounded down (towards zero) to BITS significant bits."""
    try:
        mantissa, exponent = math.frexp(number)
    except OverflowError:
        return
    for bits in BITS:
        yield f"~{bits}:{math.ldexp(math.trunc(math.ldexp(mantissa, bits)), exponent - bits)!r}"
