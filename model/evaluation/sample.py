"""Which retrieval targets are tested: a share of them by a hash of their place in the log, the same for every trainer.

P = targets. A target's place is its user, its request's time and its item: what is drawn depends neither on
micro-batches nor on the model. A target that is drawn by some share is drawn by every larger one.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.candidates import Questions

BUDGET: Final = 1 << 16  # items up to which every target is tested by default


def share_of(items: int, setting: float) -> float:
    """Return the share of targets that are tested.

    Args:
        items: Items known.
        setting: `train.test_share`; 0: by the number of items, all up to BUDGET, then half of them for every doubling.
    """
    return setting or 0.5 ** max(0, (items - 1).bit_length() - (BUDGET - 1).bit_length())


def drawn(questions: Questions, setting: float) -> NDArray[np.bool_]:
    """Return which targets are tested, [P].

    Args:
        questions: The questions.
        setting: As for share_of.
    """
    share = share_of(len(questions.born_ms), setting)
    if share >= 1:
        return np.ones(len(questions), np.bool_)
    items = questions.items
    mixed = _mixed(_mixed(questions.users) ^ questions.request_ms.view(np.uint64)) ^ items
    drawn_P: NDArray[np.bool_] = _mixed(mixed) < np.uint64(share * 2**64)
    return drawn_P


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return words whose bits depend on all bits of these (SplitMix64)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
