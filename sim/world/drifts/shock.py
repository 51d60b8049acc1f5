"""Shocks: some items become popular over night, and the fashion decays."""

from collections.abc import Iterator
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sim.world.base import Base, Positive
from sim.world.drifts.drift import Drift, DriftingWorld, DriftLaw, Floats, Moment
from sim.world.rng import Use, rng_for

HALVINGS: Final = 3  # half-lives after which a shock counts as over


class Shock(Drift):
    """Some items become popular from one moment on, and the fashion decays."""

    at_d: float = Field(ge=0)
    """Day on which it comes."""
    items: int = Field(10, ge=1)
    """How many items, drawn from those alive on that day."""
    factor: float = Field(50.0, gt=1)
    """By how much each one's weight is multiplied at first."""
    half_life_d: Positive = 2.0
    """After this time half of the excess is gone."""

    def law(self, world: DriftingWorld, number: int) -> DriftLaw:
        """Return the law."""
        return ShockLaw(self, world, number)

    def moments(self, days: float, number: int) -> Iterator[Moment]:
        """Yield the shock, until HALVINGS half-lives later."""
        until_d = self.at_d + HALVINGS * self.half_life_d
        yield Moment(f"shock {number + 1}", self.at_d / days, min(1.0, until_d / days))

    def misfits(self, base: Base, number: int) -> Iterator[str]:
        """Yield a sentence if the shock comes after the end."""
        if self.at_d >= base.days:
            yield f"shock {number + 1} comes on day {self.at_d:g}, but the stream has only {base.days:g} days"


class ShockLaw(DriftLaw):
    """b_i(t) = 1 + (factor - 1) 2^(-(t - at_d) / half_life_d) for the items drawn, from the first tick after at_d."""

    def __init__(self, shock: Shock, world: DriftingWorld, number: int) -> None:
        self._shock, self._world, self._number = shock, world, number
        self._tick = world.tick_from(shock.at_d)

    @cached_property
    def items(self) -> NDArray[np.int64]:
        """Ids of the items that become popular, ascending."""
        rng = rng_for(self._world.base.seed, Use.SHOCK, self._number)
        return np.sort(rng.permutation(self._world.alive(self._tick))[: self._shock.items])

    def item_factors(self, items_V: NDArray[np.int64], day: float) -> Floats | float:
        """Return b_i, [V]."""
        since_d = day - self._world.elapsed_d(self._tick)
        if since_d < 0:
            return 1.0
        excess = (self._shock.factor - 1) * 2 ** (-since_d / self._shock.half_life_d)
        factor_V: Floats = np.where(np.isin(items_V, self.items), 1 + excess, 1.0)
        return factor_V
