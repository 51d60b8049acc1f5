"""The seer's figures: equal to brute force, met by what happens, and never beaten."""

from typing import Any

import numpy as np
import pytest

from sim.scenarios.scenario import load_scenario
from sim.world.responses import policy_slates, requests_of
from sim.world.slates import click_probabilities
from tests.sim.world.worlds import ALL, SLATES, naive_law, scenario

SHAPES: list[dict[str, Any]] = [
    {},
    ALL,
    SLATES,
    ALL | SLATES,
    {"slates": {"size": 4, "policy": "popularity"}},
    {"slates": {"size": 4, "policy": "uniform"}},
]


def test_organic_figures_are_those_of_brute_force() -> None:
    """Sums of the law over the best items, and the place of the item clicked in their order."""
    made = scenario(base={"events": 600}, **ALL)
    seer, columns = made.seer(), made.source().columns
    clicked = columns.item[columns.user >= 0]
    assert (seer.items == clicked).all()
    assert (seer.users == made.world.visits.users).all()
    for request in range(0, 600, 23):
        tick = made.world.tick_at(int(seer.ts_ms[request]))
        law = naive_law(made.world, int(seer.users[request]), tick)
        best = sorted(law.items(), key=lambda item: (-round(item[1], 12), item[0]))
        p = [share for _, share in best]
        assert seer.hr10[request] == pytest.approx(sum(p[:10]))
        assert seer.hr50[request] == pytest.approx(sum(p[:50]))
        assert seer.ndcg10[request] == pytest.approx(sum(share / np.log2(2 + j) for j, share in enumerate(p[:10])))
        near = {place for place, (_, share) in enumerate(best, 1) if share == pytest.approx(law[int(clicked[request])])}
        assert seer.ranks[request] in near


@pytest.mark.parametrize("tables", SHAPES)
def test_what_is_expected_comes(tables: dict[str, Any]) -> None:
    """Realised figures lie near the expected ones, for the whole stream and for its last fifth."""
    base = {"events": 20_000, "items": 200, "categories": 20, "session": 1.0}
    seer = scenario(base=base, **tables).seer()
    for part in ((0.0, 1.0), (0.8, 1.0)):
        expected, realised = seer.expected(*part), seer.realised(*part)
        targets = len(seer.ranks) * (part[1] - part[0])
        for name, value in expected.items():
            assert realised[name] == pytest.approx(value, abs=4 * (0.25 / targets) ** 0.5)
    assert 0 < seer.realised()["mrr"] < 1
    assert seer.ranks.min() == 1


@pytest.mark.parametrize("tables", SHAPES[:4])
def test_nobody_who_orders_otherwise_does_better(tables: dict[str, Any]) -> None:
    """Neither the most popular items, nor the least likely, nor random ones."""
    made = scenario(base={"events": 4_000, "items": 200, "categories": 20}, **tables)
    world, others = made.world, np.zeros(3)
    rng = np.random.default_rng(1)
    for tick in range(world.ticks):
        requests = requests_of(world, tick)
        law, live = requests.law, len(requests.law.live)
        popular = np.argsort(-law.live.weight)[:10]
        orders = (popular, np.argsort(law.all().mean(axis=0))[:10], rng.permutation(live)[:10])
        if made.settings.slates is None:
            others += [law.all()[:, order].sum() for order in orders]
        else:
            shown = policy_slates(world, requests)
            p_Rk = click_probabilities(made.settings, law, shown)
            others += [(p_Rk * np.isin(shown, order)).sum() for order in orders]
    seer = made.seer()
    assert (others < seer.hr10.sum() * 0.9).all()


def test_slates_count_the_clicks_to_be_expected() -> None:
    """Expected targets of a request are its slate's click probabilities; clicks that happened are as many."""
    made = scenario(base={"events": 20_000}, slates={"size": 5, "half_lift": 3})
    seer = made.seer()
    assert seer.targets.sum() == pytest.approx(len(seer.ranks), rel=0.03)
    requests = requests_of(made.world, 3)
    p_Rk = click_probabilities(made.settings, requests.law, policy_slates(made.world, requests))
    assert seer.targets[requests.first : requests.first + len(p_Rk)] == pytest.approx(p_Rk.sum(axis=1))


def test_the_papers_stream_has_no_seer() -> None:
    """Its upper bound is the oracle."""
    assert load_scenario("paper").seer() is None
