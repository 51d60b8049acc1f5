"""Slates: what the logging policy shows, which places are looked at, what is clicked, and when."""

from typing import Any

import numpy as np
import pytest

from sim.world.events import Happening
from sim.world.responses import dies_ms, policy_slates, requests_of
from sim.world.slates import examined, relevance, shown_by_policy
from tests.sim.world.worlds import ALL, fits, scenario

MANY = {"events": 20_000, "session": 1.0}


@pytest.mark.parametrize("policy", ["taste", "popularity", "uniform"])
@pytest.mark.parametrize("explore", [0.0, 0.3])
def test_the_policy_shows_what_it_says(policy: str, explore: float) -> None:
    """Place 1 by the policy's weights, place 2 by the weights of what is left, for each user by the user's law."""
    made = scenario(season=ALL["season"], slates={"size": 4, "policy": policy, "explore": explore})
    law = made.world.law_of(np.full(30_000, 7), 3)
    own_V = law.all()[0]
    weight_V = {"taste": own_V, "popularity": law.live.weight, "uniform": np.ones(60)}[policy]
    weight_V = (1 - explore) * weight_V / weight_V.sum() + explore / 60
    shown_Rk = shown_by_policy(made.world, law, 3)
    assert (np.sort(shown_Rk, axis=1)[:, 1:] > np.sort(shown_Rk, axis=1)[:, :-1]).all()
    assert fits(np.bincount(shown_Rk[:, 0], minlength=60), weight_V * 30_000)
    second_V = weight_V * (weight_V[:, None] / (1 - weight_V[:, None])).sum(axis=0)
    second_V -= weight_V * weight_V / (1 - weight_V)
    assert fits(np.bincount(shown_Rk[:, 1], minlength=60), second_V * 30_000)


def test_a_slate_can_show_all_there_is() -> None:
    """If a taste has too few items, the rest is random; nothing is shown twice."""
    made = scenario(base={"slots": 1, "items": 12}, slates={"size": 12})
    shown_Rk = policy_slates(made.world, requests_of(made.world, 0))
    assert (np.sort(shown_Rk, axis=1) == np.arange(12)).all()


def test_lower_places_are_looked_at_less() -> None:
    """Under random slates the clicks of place j fall as 1/j**decay; every click is as likely as its law says."""
    made = scenario(base=MANY, slates={"size": 6, "policy": "uniform", "half_lift": 2}, position={"decay": 1.3})
    columns = made.source().columns
    clicks = np.flatnonzero(columns.what == Happening.CLICK)
    place_A = (columns.shown[columns.request[clicks]] == columns.item[clicks][:, None]).argmax(axis=1)
    rate_k = np.bincount(place_A, minlength=6) / len(columns.shown)
    relevant = []
    for tick in range(made.world.ticks):
        law = requests_of(made.world, tick).law
        lift_RV = law.all() * 60
        relevant.append((lift_RV / (lift_RV + 2)).mean(axis=1))
    assert relevance(made.settings, law, lift_RV / 60) == pytest.approx(lift_RV / (lift_RV + 2))
    expected_k = np.concatenate(relevant).mean() * np.arange(1, 7) ** -1.3
    assert examined(made.settings) == pytest.approx(np.arange(1, 7) ** -1.3)
    assert rate_k == pytest.approx(expected_k, abs=0.012)
    without = scenario(base=MANY, slates={"size": 6, "policy": "uniform", "half_lift": 2})
    assert (examined(without.settings) == 1).all()


@pytest.mark.parametrize(
    ("delay", "quantiles"),
    [
        ({"law": "exponential", "seconds": 100}, {0.5: 69.3, 0.9: 230.3, 0.99: 460.5}),
        ({"law": "lognormal", "seconds": 60, "sigma": 1.5}, {0.5: 60, 0.9: 60 * np.exp(1.5 * 1.2816)}),
        ({"law": "fixed", "seconds": 7}, {0.01: 7, 0.99: 7}),
        (None, {0.01: 2, 0.99: 2}),
    ],
)
def test_clicks_come_when_their_law_says(delay: dict[str, Any] | None, quantiles: dict[float, float]) -> None:
    """Median and tails of the time between slate and click."""
    made = scenario(base=MANY, slates={"size": 5}, **({"delay": delay} if delay else {}))
    columns = made.source().columns
    clicks = columns.what == Happening.CLICK
    waited_s = (columns.ts_ms[clicks] - made.world.visits.ts_ms[columns.request[clicks]]) / 1000
    assert clicks.sum() > 10_000
    for share, seconds in quantiles.items():
        assert np.quantile(waited_s, share) == pytest.approx(seconds, rel=0.06)


def test_what_dies_is_not_clicked_any_more() -> None:
    """Late clicks on items that have died meanwhile do not come; all others do."""
    base, slates = {"events": 4_000, "session": 1.0}, {"size": 5, "policy": "uniform"}
    tables: dict[str, Any] = {"turnover": {"lifetime_d": 1}, "slates": slates}
    soon = scenario(base=base, **tables, delay={"law": "fixed", "seconds": 0.001}).source().columns
    late = scenario(base=base, **tables, delay={"law": "fixed", "seconds": 86_400}).source().columns
    world = scenario(base=base, **tables).world
    clicks, came = (columns.what == Happening.CLICK for columns in (soon, late))
    asked_ms = world.visits.ts_ms[soon.request[clicks]]
    expected = dies_ms(world, soon.item[clicks]) > asked_ms + 86_400_000
    assert 0.2 < expected.mean() < 0.6
    assert sorted(zip(soon.request[clicks][expected], soon.item[clicks][expected], strict=True)) == sorted(
        zip(late.request[came], late.item[came], strict=True)
    )


def test_noise_is_part_of_relevance() -> None:
    """To a bot all items are equal: the lift of each is 1."""
    made = scenario(slates={"size": 5, "half_lift": 3}, bots={"share": 1.0})
    law = made.world.law_of(np.arange(40), 0)
    assert relevance(made.settings, law, law.all()) == pytest.approx(np.full((40, 60), 0.25))
