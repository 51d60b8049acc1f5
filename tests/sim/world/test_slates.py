"""Slates: what the logging policy shows, which places are looked at, what is clicked, and when."""

import numpy as np
import pytest

from sim.world.events import Happening
from sim.world.responses import policy_slates, requests_of
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


def test_noise_is_part_of_relevance() -> None:
    """To a bot all items are equal: the lift of each is 1."""
    made = scenario(slates={"size": 5, "half_lift": 3}, bots={"share": 1.0})
    law = made.world.law_of(np.arange(40), 0)
    assert relevance(made.settings, law, law.all()) == pytest.approx(np.full((40, 60), 0.25))
