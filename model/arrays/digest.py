"""Digests of arrays: two runs have the same digest if, and for all we care only if, they have the same arrays.

What is hashed of each array, in the order of the mapping: name, dtype, shape, then its elements as they lie in memory
(so a digest is of one byte order). Room that an array keeps for later is its owner's to leave out.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Hasher(Protocol):
    """What hashlib and xxhash give."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Take more bytes."""


def digest_arrays(hasher: Hasher, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Feed the arrays to the hasher."""
    for name, array in arrays.items():
        hasher.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
