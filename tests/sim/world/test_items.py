"""Items: how many live, how long each lives, and how popular it is in its category."""

import numpy as np
import pytest

from tests.sim.world.worlds import scenario


def test_a_catalogue_grows_by_its_power() -> None:
    """From the first share to all items; late for a power above 1."""
    for power, middle in ((1.0, 0.7), (2.0, 0.55), (0.5, 0.4 + 0.6 * 0.5**0.5)):
        world = scenario(base={"events": 101 * 256, "items": 1_000}, growth={"first": 0.4, "power": power}).world
        live = [len(world.live(tick)) for tick in range(world.ticks)]
        assert (live[0], live[-1]) == (400, 1_000)
        assert live == sorted(live)
        assert live[50] == pytest.approx(1_000 * middle, abs=1)


@pytest.mark.parametrize("law", ["exponential", "fixed"])
def test_items_live_as_long_as_set(law: str) -> None:
    """And each death makes room for one birth."""
    base = {"events": 400 * 256, "items": 2_000, "days": 40}
    world = scenario(base=base, turnover={"lifetime_d": 4, "law": law}).world
    items, per_day = world.items, world.ticks / 40
    assert {len(world.live(tick)) for tick in range(world.ticks)} == {2_000}
    whole = (items.born > 0) & (items.born < world.ticks * 0.4)
    lived_d = (items.dies - items.born)[whole] / per_day
    assert lived_d.mean() == pytest.approx(4, rel=0.05)
    assert lived_d.std() == pytest.approx(4 if law == "exponential" else 0, rel=0.1, abs=1e-9)
    born_d = np.histogram(items.born[items.born > 0] / per_day, bins=20, range=(0, 40))[0] / 2
    assert born_d.mean() == pytest.approx(2_000 / 4, rel=0.05)  # from the first day on: no generation dies together
    assert born_d.std() < 40


def test_popularity_is_zipf() -> None:
    """Within a category the weight falls with the rank by the exponent; 0 makes all equal."""
    world = scenario(base={"items": 6_000, "zipf": 1.2}).world
    weights = np.sort(world.items.weight[world.items.category == 2])[::-1]
    ranks = (np.arange(len(weights)) + 0.5) / len(weights) * 1_000
    assert np.abs(np.log(weights) + 1.2 * np.log(1 + ranks))[100:].max() < 0.1
    assert (scenario(base={"zipf": 0.0}).world.items.weight == 1).all()
