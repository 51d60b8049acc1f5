"""What stands in for items without a row: a row of the feature table, learned like any other.

An item that the catalogue describes has the row of the first of its values that has one; the others share rows of their
own, which one by the hash of their ids.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.catalogue import Catalogue
from model.data.item_features import ItemFeatures
from model.data.vocabulary import Vocabulary
from stream.example import id_key


class StandIns:
    """The stand-ins.

    Args:
        count: Rows that the items without a value share.
        item_features: Names of the features that count.
    """

    def __init__(self, count: int, item_features: Iterable[str]) -> None:
        self.keys: Final = np.array([id_key(f"\0unknown item {n}") for n in range(count)], np.uint64)
        self._item_features = ItemFeatures(item_features)  # not that of the items, which counts what it meets

    def rows(self, keys_n: NDArray[np.uint64], features: Vocabulary, catalogue: Catalogue | None) -> NDArray[np.int64]:
        """Return the row of the feature table that stands in for each item, [n].

        Args:
            keys_n: Items.
            features: Features known so far, with `keys` among them.
            catalogue: What is known of the items; None: nothing.
        """
        shared = features.rows(self.keys)
        row_n: NDArray[np.int64] = shared[(keys_n % np.uint64(len(shared))).astype(np.int64)]
        if catalogue is None or not self._item_features.used:
            return row_n
        distinct, at_n = np.unique(keys_n, return_inverse=True)
        value = np.array([self._value(key, features, catalogue) for key in distinct.tolist()], np.int64)[at_n]
        return np.where(value >= 0, value, row_n)

    def _value(self, key: int, features: Vocabulary, catalogue: Catalogue) -> int:
        """Return the row of an item's first value that has one, else -1."""
        item = catalogue.get(key)
        keys_m, _ = self._item_features.values(item.features if item else {})
        return next((row for row in features.rows(keys_m).tolist() if row >= 0), -1)
