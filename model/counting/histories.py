"""A user's last items as a matrix: the item tokens of each question's history, latest first.

T questions, L tokens, m items looked at.
"""

import numpy as np
from numpy.typing import NDArray

from model.data.candidates import Questions


def latest(questions: Questions, count: int, counted_V: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return the rows of the last `count` item tokens up to each query, [T, count]; -1 where there are fewer.

    Attributes and items without a row are skipped, and so are items outside `counted_V`, if it is given: an item that
    nothing has been counted for tells no more than an unknown one. An item with two tokens comes twice.
    """
    wanted_L = questions.rows >= 0
    if counted_V is not None:
        wanted_L[wanted_L] = counted_V[questions.rows[wanted_L]]
    items = np.flatnonzero(wanted_L)
    before_L = np.searchsorted(items, np.arange(len(questions.rows) + 1))  # how many of them stand before a token
    end_T1 = before_L[questions.queries + 1][:, None]
    at_Tm = end_T1 - 1 - np.arange(count)
    there_Tm = (at_Tm >= before_L[questions.starts][:, None]) & (questions.queries[:, None] >= 0)
    found_Tm = np.full(at_Tm.shape, -1, np.int64)
    found_Tm[there_Tm] = questions.rows[items[at_Tm[there_Tm]]]
    return found_Tm
