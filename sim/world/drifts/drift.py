"""What a kind of drift is: a table of the scenario file, and the law by which it changes a world.

U = users, C = categories, V = live items, R = requests, N = visits. Days are event time since the beginning.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.world.base import Base, SettingsTable

Floats = NDArray[np.float64]


class Moment(NamedTuple):
    """Something that happens at a share of the stream's event time, and until when it lasts."""

    name: str
    share: float
    until_share: float


class DriftingWorld(Protocol):
    """What a law may ask of its world."""

    @property
    def base(self) -> Base:
        """Sizes and the seed."""
        ...

    def tick_from(self, day: float) -> int:
        """Return the first tick that begins on that day or later."""
        ...

    def elapsed_d(self, tick: int) -> float:
        """Return the days before a tick begins."""
        ...

    def alive(self, tick: int) -> NDArray[np.int64]:
        """Return the ids of the items that live in a tick, ascending."""
        ...

    def taste(self, number: int) -> Floats:
        """Return the drawn taste `number` of all users, [U, C]; each row sums to 1."""
        ...


class DriftLaw:
    """How one drift changes a world. Each method changes nothing until it is overridden.

    All laws of a world apply together: factors are multiplied, and tastes go from one law to the next.
    """

    def category_factors(self, day: float) -> Floats | float:
        """Return factors of the categories' weights, [C]."""
        return 1.0

    def item_factors(self, items_V: NDArray[np.int64], day: float) -> Floats | float:
        """Return factors of the weights of live items, [V]."""
        return 1.0

    def tastes(self, taste_RC: Floats, users_R: NDArray[np.int64], day: float) -> Floats:
        """Return the tastes of users, [R, C]; each row sums to 1."""
        return taste_RC

    def presence(self, users_N: NDArray[np.int64], day_N: Floats) -> Floats | float:
        """Return how active users are, as a share of their usual activity, [N] in [0, 1].

        The number of visits stays: in the place of a user who is absent another user comes.
        """
        return 1.0


class Drift(SettingsTable):
    """A table of the scenario file: its keys, with their docstrings, are the parameters of its law."""

    @abstractmethod
    def law(self, world: DriftingWorld, number: int) -> DriftLaw:
        """Return the law in a world; `number` counts the tables of one name from 0."""

    def moments(self, days: float, number: int) -> Iterable[Moment]:
        """Return what happens when, in a stream of this many days."""
        return ()

    def misfits(self, base: Base, number: int) -> Iterable[str]:
        """Return what does not fit to [base], as sentences without a full stop."""
        return ()
