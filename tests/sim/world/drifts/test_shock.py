"""Shocks: how far they lift their items, and for how long."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.scenarios.scenario import WorldScenario
from tests.sim.world.worlds import MANY, scenario


def counted(made: WorldScenario, share: float, until: float) -> NDArray[np.int64]:
    """Count the clicks of each item in a part of the stream."""
    columns = made.source().columns
    clicks = columns.item[columns.user >= 0]
    return np.bincount(clicks[int(share * len(clicks)) : int(until * len(clicks))], minlength=len(made.world.items))


def test_a_shock_lifts_its_items_and_decays() -> None:
    """By the factor at first, by half of the excess after a half-life, and never before it comes."""
    table = {"at_d": 5, "items": 6, "factor": 30, "half_life_d": 1}
    made = scenario(base=MANY, shock=table)
    world, plain = made.world, scenario(base=MANY).world
    chosen = world.shocked[0]
    assert len(chosen) == 6
    for day, factor in ((4.9, 1.0), (5.0, 30.0), (6.0, 15.5), (7.0, 8.25)):
        tick = int(np.ceil(day / 10 * world.ticks))
        lifted, still = world.live(tick), plain.live(tick)
        ratio = lifted.weight / still.weight
        assert ratio[np.isin(lifted.items, chosen)] == pytest.approx(np.full(6, factor), rel=0.05)
        assert ratio[~np.isin(lifted.items, chosen)] == pytest.approx(np.ones(54))
    before, during = (counted(made, *part)[chosen].sum() for part in ((0.4, 0.5), (0.5, 0.6)))
    assert during > 3 * before
