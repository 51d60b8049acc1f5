"""Random numbers of a scenario: Philox keyed by (seed, number), with counters of its own for each use.

So each tick, and each use in it, draws from its own numbers: the world is the same however it is cut, and what one
drift draws changes nothing of what another one does.
"""

from enum import IntEnum

import numpy as np


class Use(IntEnum):
    """What random numbers are for; new uses go to the end, so that old scenarios stay what they are."""

    USERS = 0
    TASTES = 1  # number: of the taste that users move to
    VISITS = 2
    ITEMS = 3
    SHOCK = 4  # number: of the shock
    CHOICE = 5  # number: of the tick, and so below
    EXPLORE = 6
    CLICKS = 7
    DELAYS = 8


def chance(seed: int, use: Use, number: int = 0) -> np.random.Generator:
    """Give the generator of one use."""
    key = np.array([seed, number], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, int(use)]))
