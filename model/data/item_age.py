"""Age slices of items at request time, by which the prequential metrics are reported.

T = targets. Times are event time in int64 milliseconds. The age of an item is the time from its birth (the first event
that showed it, vocabulary.py) to the request. An item is "unseen" if the vocabulary does not know it, or if it was born
at the request or after it (another user's later events may be learned already): nobody could have recommended it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.example import END_OF_TIME_MS

SLICES: Final = ("unseen", "<1h", "<1d", "<7d", "old")
UNBORN: Final = END_OF_TIME_MS  # birth of an item that no event has shown yet
_EDGES_MS: Final = np.array([1, 3_600_000, 86_400_000, 604_800_000])  # youngest age of every slice but the first


def age_slice(born_ms_T: NDArray[np.int64], request_ms_T: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return each target's index into SLICES, [T]; an age equal to an edge belongs to the older slice."""
    return np.searchsorted(_EDGES_MS, request_ms_T - born_ms_T, side="right")
