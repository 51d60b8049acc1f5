"""Random numbers of a scenario: Philox keyed by (seed, number), with its own counters for each use.

Each tick, and each use in it, draws from its own numbers. So the stream is the same wherever it begins, and the numbers
that one drift draws do not change those of another.
"""

from enum import IntEnum

import numpy as np
from xxhash import xxh3_64_intdigest


class Use(IntEnum):
    """What random numbers are for. Add new uses at the end, so that the streams of old scenarios do not change."""

    USERS = 0
    TASTES = 1  # number: of the taste that users move to
    VISITS = 2
    ITEMS = 3
    SHOCK = 4  # number: of the shock
    CHOICE = 5  # number: of the tick, and so below
    EXPLORE = 6
    CLICKS = 7
    DELAYS = 8
    NAMED = 9  # number: a hash of a name and a number


def rng_for(seed: int, use: Use, number: int = 0) -> np.random.Generator:
    """Return the generator of one use."""
    key = np.array([seed, number], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, int(use)]))


def rng_named(seed: int, name: str, number: int = 0) -> np.random.Generator:
    """Return a generator for a use that has no place in Use, such as a drift of your own."""
    return rng_for(seed, Use.NAMED, xxh3_64_intdigest(f"{name}/{number}".encode()))
