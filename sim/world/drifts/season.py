"""Seasons: the weight of each category follows a sine."""

import numpy as np
from pydantic import Field

from sim.world.base import Positive
from sim.world.drifts.drift import Drift, DriftingWorld, DriftLaw, Floats


class Season(Drift):
    """The weight of each category follows a sine, one category after the other."""

    period_d: Positive
    """Time from one peak of a category to its next."""
    amplitude: float = Field(0.8, gt=0, lt=1)
    """How far a weight swings around 1."""

    def law(self, world: DriftingWorld, number: int) -> DriftLaw:
        """Return the law."""
        return SeasonLaw(self, world.base.categories)


class SeasonLaw(DriftLaw):
    """s_c(t) = 1 + amplitude sin(2π (t / period_d + c / categories))."""

    def __init__(self, season: Season, categories: int) -> None:
        self._season, self._categories = season, categories

    def category_factors(self, day: float) -> Floats:
        """Return s_c, [C]."""
        phase_C = day / self._season.period_d + np.arange(self._categories) / self._categories
        factor_C: Floats = 1 + self._season.amplitude * np.sin(2 * np.pi * phase_C)
        return factor_C
