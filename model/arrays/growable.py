"""Arrays that grow row by row: room for twice as many whenever they are full, so that a row costs O(1) over time."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def with_room(array: NDArray[Scalar], rows: int) -> NDArray[Scalar]:
    """Give the array itself if it has so many rows, else a copy of it with at least twice its own, zeros at the end."""
    if rows <= len(array):
        return array
    grown: NDArray[Any] = np.zeros((max(rows, 2 * len(array)), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
