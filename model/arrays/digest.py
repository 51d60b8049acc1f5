"""Digest of named arrays: equal arrays give equal digests; collisions are ignored (64 bits or more).

Hashed for each array, in the order of the mapping: name, dtype, shape, then its elements as they lie in memory (so a
digest depends on the byte order). The owner of an array must leave out its spare rows.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Hasher(Protocol):
    """A hash object of hashlib or xxhash."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Add bytes."""


def digest_arrays(hasher: Hasher, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Feed the arrays to the hasher."""
    for name, array in arrays.items():
        hasher.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
