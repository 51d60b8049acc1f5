"""Every drift follows its law: the arrays are the formulas, and the draws follow the arrays."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.scenarios.scenario import WorldScenario
from sim.world.responses import organic, requests_of
from sim.world.world import World
from tests.sim.world.worlds import ALL, fits, naive_law, scenario

MANY = {"events": 60_000, "session": 1.0}


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
            assert sorted(naive) == sorted(law.shelf.items.tolist())
            assert p_UV[user] == pytest.approx([naive[item] for item in law.shelf.items.tolist()])
        place_Uk = np.array([[0, 5, len(law.shelf) - 1]] * 40)
        assert law.at(place_Uk) == pytest.approx(p_UV[:, place_Uk[0]])


@pytest.mark.parametrize("name", ["", *ALL, "all"])
def test_clicks_follow_the_law(name: str) -> None:
    """Counted over the whole stream by item, and by user and item in a tick drawn often."""
    tables = ALL if name == "all" else {key: ALL[key] for key in ALL if key == name}
    world = scenario(base=MANY, **tables).world
    counts, expected = np.zeros(len(world.items)), np.zeros(len(world.items))
    for tick in range(world.ticks):
        asked = requests_of(world, tick)
        np.add.at(counts, organic(world, asked).item, 1)
        expected[asked.law.shelf.items] += asked.law.all().sum(axis=0)
    assert fits(counts, expected)
    users_R = np.repeat([3, 29], 20_000)
    law = world.law_of(users_R, world.ticks // 2)
    place_R = law.draw(np.random.default_rng(5), 1)[:, 0]
    for user_R, p_V in ((slice(0, 20_000), law.all()[0]), (slice(20_000, None), law.all()[-1])):
        assert fits(np.bincount(place_R[user_R], minlength=len(law.shelf)), p_V * 20_000)


def counted(made: WorldScenario, share: float, until: float) -> NDArray[np.int64]:
    """Count the clicks of each item in a part of the stream."""
    columns = made.source().columns
    clicks = columns.item[columns.user >= 0]
    return np.bincount(clicks[int(share * len(clicks)) : int(until * len(clicks))], minlength=len(made.world.items))


def test_a_catalogue_grows_by_its_power() -> None:
    """From the first share to all of it; late for a power above 1."""
    for power, middle in ((1.0, 0.7), (2.0, 0.55), (0.5, 0.4 + 0.6 * 0.5**0.5)):
        world = scenario(base={"events": 101 * 256, "items": 1_000}, growth={"first": 0.4, "power": power}).world
        live = [len(world.shelf(tick)) for tick in range(world.ticks)]
        assert (live[0], live[-1]) == (400, 1_000)
        assert live == sorted(live)
        assert live[50] == pytest.approx(1_000 * middle, abs=1)


@pytest.mark.parametrize("law", ["exponential", "fixed"])
def test_items_live_as_long_as_said(law: str) -> None:
    """And each death makes room for one birth."""
    base = {"events": 400 * 256, "items": 2_000, "days": 40}
    world = scenario(base=base, turnover={"lifetime_d": 4, "law": law}).world
    items, per_day = world.items, world.ticks / 40
    assert {len(world.shelf(tick)) for tick in range(world.ticks)} == {2_000}
    whole = (items.born > 0) & (items.born < world.ticks * 0.4)
    lived_d = (items.dies - items.born)[whole] / per_day
    assert lived_d.mean() == pytest.approx(4, rel=0.05)
    assert lived_d.std() == pytest.approx(4 if law == "exponential" else 0, rel=0.1, abs=1e-9)
    born_d = np.histogram(items.born[items.born > 0] / per_day, bins=20, range=(0, 40))[0] / 2
    assert born_d.mean() == pytest.approx(2_000 / 4, rel=0.05)  # from the first day on: no generation dies together
    assert born_d.std() < 40


def test_a_shock_lifts_its_items_and_decays() -> None:
    """By the factor at first, by half of the excess after a half-life, and never before it comes."""
    table = {"at_d": 5, "items": 6, "factor": 30, "half_life_d": 1}
    made = scenario(base=MANY, shock=table)
    world, plain = made.world, scenario(base=MANY).world
    chosen = world.shocked[0]
    assert len(chosen) == 6
    for day, factor in ((4.9, 1.0), (5.0, 30.0), (6.0, 15.5), (7.0, 8.25)):
        tick = int(np.ceil(day / 10 * world.ticks))
        lifted, still = world.shelf(tick), plain.shelf(tick)
        ratio = lifted.weight / still.weight
        assert ratio[np.isin(lifted.items, chosen)] == pytest.approx(np.full(6, factor), rel=0.05)
        assert ratio[~np.isin(lifted.items, chosen)] == pytest.approx(np.ones(54))
    before, during = (counted(made, *part)[chosen].sum() for part in ((0.4, 0.5), (0.5, 0.6)))
    assert during > 3 * before


def test_tastes_jump_or_glide() -> None:
    """A jump is whole when its period begins; a glide is half-way in the middle of one."""
    jump, glide = (scenario(base=MANY, rotation={"period_d": 2.5, "move": move}).world for move in ("jump", "glide"))
    users = np.arange(40)
    for number in range(4):
        now, then = jump.users.taste(number), jump.users.taste(number + 1)
        assert jump.users.mix(users, 2.5 * number + 2.4) == pytest.approx(now)
        assert glide.users.mix(users, 2.5 * number + 1.25) == pytest.approx((now + then) / 2)
        assert np.abs(now - then).sum(axis=1).mean() > 1  # of 2 at most: they have little in common


def test_a_taste_has_its_slots() -> None:
    """As many categories at most, and a concentration that evens them out."""
    few, even = (scenario(base={"users": 3_000, "categories": 50, "slots": 3, "concentration": c}) for c in (0.2, 50))
    for made, highest in ((few, 0.85), (even, 0.36)):
        taste_UC = made.world.users.taste(0)
        assert taste_UC.sum(axis=1) == pytest.approx(np.ones(3_000))
        assert ((taste_UC > 0).sum(axis=1) <= 3).all()
        assert np.abs((taste_UC > 0).sum(axis=0) - 180).max() < 60
        assert np.median(taste_UC.max(axis=1)) == pytest.approx(highest, abs=0.06)


def test_seasons_come_one_after_the_other() -> None:
    """Each category's peak is a period's part behind the one before; the mean over a period is 1."""
    world = scenario(base={"events": 256 * 1_000}, season={"period_d": 5, "amplitude": 0.8}).world
    season_NC = np.array([world.shelf(tick).pull for tick in range(500)])
    assert season_NC.mean(axis=0) == pytest.approx(np.ones(6), abs=1e-6)
    assert season_NC.max(axis=0) == pytest.approx(np.full(6, 1.8), abs=1e-3)
    peaks = (season_NC.argmax(axis=0) - season_NC[:, 0].argmax()) % 500
    assert peaks == pytest.approx([0, 417, 333, 250, 167, 83], abs=2)


def test_popularity_is_zipf() -> None:
    """Within a category the weight falls with the rank by the exponent; 0 makes all alike."""
    world = scenario(base={"items": 6_000, "zipf": 1.2}).world
    weights = np.sort(world.items.weight[world.items.category == 2])[::-1]
    ranks = (np.arange(len(weights)) + 0.5) / len(weights) * 1_000
    assert np.abs(np.log(weights) + 1.2 * np.log(1 + ranks))[100:].max() < 0.1
    assert (scenario(base={"zipf": 0.0}).world.items.weight == 1).all()


def test_noise_and_bots_click_on_anything() -> None:
    """A share of each person's clicks, and all of a bot's, who comes so many times as often."""
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
    """The law stays one, where all that a user likes has died out."""
    tables: dict[str, Any] = {"turnover": {"lifetime_d": 0.5}}
    world: World = scenario(base={"items": 8, "categories": 8, "slots": 1}, **tables).world
    empty = 0
    for tick in range(world.ticks):
        law = world.law_of(np.arange(40), tick)
        there = np.diff(law.shelf.first) > 0
        empty += int((~there).sum())
        assert law.all().sum(axis=1) == pytest.approx(np.ones(40))
        assert (law.taste[:, ~there] == 0).all()
        law.draw(np.random.default_rng(tick), 50)
    assert empty
