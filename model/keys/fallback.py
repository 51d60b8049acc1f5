"""The stand-in of items without a row: a row of the feature table, learned like any other, which such items share.

Which one an item has depends on its key.
"""

import numpy as np
from numpy.typing import NDArray

from stream.example import id_key


def fallback_keys(count: int) -> NDArray[np.uint64]:
    """Return the keys of the stand-ins among the features, [count]."""
    return np.array([id_key(f"\0unknown item {n}") for n in range(count)], np.uint64)


def fallbacks(keys_n: NDArray[np.uint64], row_c: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of each item's stand-in, [n], from the rows of all stand-ins."""
    return row_c[(keys_n % np.uint64(len(row_c))).astype(np.int64)]
