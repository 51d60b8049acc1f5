"""Arrays that grow row by row: the capacity doubles when it is full, so that adding a row costs O(1) over time."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def with_room(array: NDArray[Scalar], rows: int) -> NDArray[Scalar]:
    """Return the array if it has `rows` rows, else a copy with at least twice as many as before, zeros at the end."""
    if rows <= len(array):
        return array
    grown: NDArray[Any] = np.zeros((max(rows, 2 * len(array)), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
