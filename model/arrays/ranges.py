"""Ranges laid end to end: every place in them, and the range it belongs to.

T = ranges, n = their places together.
"""

import numpy as np
from numpy.typing import NDArray


def ranges(starts_T: NDArray[np.int64], lengths_T: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the range of each place and the place itself, [n] each, in order; a length of 0 has none.

    >>> owners, places = ranges(np.array([5, 9]), np.array([2, 1]))
    >>> owners.tolist(), places.tolist()
    ([0, 0, 1], [5, 6, 9])
    """
    owner_n = np.repeat(np.arange(len(lengths_T)), lengths_T)
    step_n = np.arange(len(owner_n)) - np.repeat(np.cumsum(lengths_T) - lengths_T, lengths_T)
    return owner_n, starts_T[owner_n] + step_n
