"""Seasons: how the weights of categories swing."""

import numpy as np
import pytest

from tests.sim.world.worlds import scenario


def test_seasons_come_one_after_the_other() -> None:
    """Each peak follows the one before by 1/categories of a period; the mean over a period is 1."""
    world = scenario(base={"events": 256 * 1_000}, season={"period_d": 5, "amplitude": 0.8}).world
    season_NC = np.array([world.live(tick).pull for tick in range(500)])
    assert season_NC.mean(axis=0) == pytest.approx(np.ones(6), abs=1e-6)
    assert season_NC.max(axis=0) == pytest.approx(np.full(6, 1.8), abs=1e-3)
    peaks = (season_NC.argmax(axis=0) - season_NC[:, 0].argmax()) % 500
    assert peaks == pytest.approx([0, 417, 333, 250, 167, 83], abs=2)
