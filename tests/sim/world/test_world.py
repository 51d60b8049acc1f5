"""The law of a world: its arrays are the formulas, and draws follow the arrays."""

from typing import Any

import numpy as np
import pytest

from sim.world.responses import organic, requests_of
from sim.world.world import World
from tests.sim.world.worlds import ALL, MANY, fits, naive_law, scenario


@pytest.mark.parametrize("name", ["", *ALL, "all"])
def test_the_law_is_the_formula(name: str) -> None:
    """For each drift alone and for all together, in the first tick, in the last, and between."""
    tables = ALL if name == "all" else {key: ALL[key] for key in ALL if key == name}
    world = scenario(**tables).world
    for tick in (0, 4, 7, world.ticks - 1):
        law = world.law_of(np.arange(40), tick)
        p_UV = law.all()
        assert p_UV.sum(axis=1) == pytest.approx(np.ones(40))
        for user in (0, 17, 39):
            naive = naive_law(world, user, tick)
            assert sorted(naive) == sorted(law.live.items.tolist())
            assert p_UV[user] == pytest.approx([naive[item] for item in law.live.items.tolist()])
        place_Uk = np.array([[0, 5, len(law.live) - 1]] * 40)
        assert law.at(place_Uk) == pytest.approx(p_UV[:, place_Uk[0]])


@pytest.mark.parametrize("name", ["", *ALL, "all"])
def test_clicks_follow_the_law(name: str) -> None:
    """Counted over the whole stream by item, and by user and item in a tick drawn often."""
    tables = ALL if name == "all" else {key: ALL[key] for key in ALL if key == name}
    world = scenario(base=MANY, **tables).world
    counts, expected = np.zeros(len(world.items)), np.zeros(len(world.items))
    for tick in range(world.ticks):
        requests = requests_of(world, tick)
        np.add.at(counts, organic(world, requests).item, 1)
        expected[requests.law.live.items] += requests.law.all().sum(axis=0)
    assert fits(counts, expected)
    users_R = np.repeat([3, 29], 20_000)
    law = world.law_of(users_R, world.ticks // 2)
    place_R = law.draw(np.random.default_rng(5), 1)[:, 0]
    for user_R, p_V in ((slice(0, 20_000), law.all()[0]), (slice(20_000, None), law.all()[-1])):
        assert fits(np.bincount(place_R[user_R], minlength=len(law.live)), p_V * 20_000)


def test_noise_and_bots_click_on_anything() -> None:
    """A share of each person's clicks, and all clicks of a bot, which comes more often."""
    made = scenario(base=MANY, bots={"share": 0.1, "activity": 20}, noise={"share": 0.25})
    world = made.world
    assert world.users.bots.sum() == 4
    bots = world.users.bots[world.visits.users].mean()
    assert bots == pytest.approx(4 * 20 / (36 + 4 * 20), abs=0.2)
    law = world.law_of(np.arange(40), 0)
    lowest = law.all().min(axis=1)
    assert lowest[world.users.bots] == pytest.approx(np.full(4, 1 / 60))
    assert lowest[~world.users.bots] == pytest.approx(np.full(36, 0.25 / 60))


def test_a_user_whose_categories_are_empty_takes_others() -> None:
    """Probabilities still sum to 1 when all that a user likes has died out."""
    tables: dict[str, Any] = {"turnover": {"lifetime_d": 0.5}}
    world: World = scenario(base={"items": 8, "categories": 8, "slots": 1}, **tables).world
    empty = 0
    for tick in range(world.ticks):
        law = world.law_of(np.arange(40), tick)
        there = np.diff(law.live.first) > 0
        empty += int((~there).sum())
        assert law.all().sum(axis=1) == pytest.approx(np.ones(40))
        assert (law.taste[:, ~there] == 0).all()
        law.draw(np.random.default_rng(tick), 50)
    assert empty
