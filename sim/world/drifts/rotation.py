"""Rotation: all users move from one taste to another."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sim.world.base import Positive
from sim.world.drifts.drift import Drift, DriftingWorld, DriftLaw, Floats, Moment


class Rotation(Drift):
    """Every user's taste moves on to another one, and again."""

    period_d: Positive
    """Time from one taste to the next."""
    move: Literal["jump", "glide"] = "jump"
    """Tastes change all at once when a period begins, or slide evenly from one to the next."""

    def law(self, world: DriftingWorld, number: int) -> DriftLaw:
        """Return the law."""
        return RotationLaw(self, world)

    def moments(self, days: float, number: int) -> Iterator[Moment]:
        """Yield the beginning of each new taste, from "taste 2" on."""
        for turn in range(1, int(days / self.period_d - 1e-9) + 1):
            share = turn * self.period_d / days
            yield Moment(f"taste {turn + 1}", share, min(1.0, share + self.period_d / days))


class RotationLaw(DriftLaw):
    """θ_u(t) = θ_u,n, or with "glide" (1 - f) θ_u,n + f θ_u,n+1, where n + f = t / period_d."""

    def __init__(self, rotation: Rotation, world: DriftingWorld) -> None:
        self._rotation, self._world = rotation, world

    def tastes(self, taste_RC: Floats, users_R: NDArray[np.int64], day: float) -> Floats:
        """Return the tastes of that day, [R, C]."""
        turns, part = divmod(day / self._rotation.period_d, 1.0)
        now_RC = self._world.taste(int(turns))[users_R]
        if self._rotation.move == "jump":
            return now_RC
        return (1 - part) * now_RC + part * self._world.taste(int(turns) + 1)[users_R]
