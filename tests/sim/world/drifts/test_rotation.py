"""Rotation: how all tastes move."""

import numpy as np
import pytest

from tests.sim.world.worlds import MANY, scenario


def test_tastes_jump_or_glide() -> None:
    """A jump is complete when its period begins; a glide is half complete in the middle of one."""
    jump, glide = (scenario(base=MANY, rotation={"period_d": 2.5, "move": move}).world for move in ("jump", "glide"))
    users = np.arange(40)
    for number in range(4):
        now, then = jump.users.taste(number), jump.users.taste(number + 1)
        assert jump.tastes(users, 2.5 * number + 2.4) == pytest.approx(now)
        assert glide.tastes(users, 2.5 * number + 1.25) == pytest.approx((now + then) / 2)
        assert np.abs(now - then).sum(axis=1).mean() > 1  # of 2 at most: they have little in common
