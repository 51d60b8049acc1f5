"""Curves of a scenario: they are those of the law, and of the clicks where they are counted."""

from typing import Any

import numpy as np
import pytest

from sim.scenarios.curves import Drawing, drawings
from sim.scenarios.scenario import load_scenario
from tests.sim.world.worlds import SLATES, scenario


def drawn(tables: dict[str, Any]) -> dict[str, Drawing]:
    return {drawing.title: drawing for drawing in drawings(scenario(**tables))}


def curve(drawing: Drawing, label: str) -> np.ndarray:
    return next(curve.y for curve in drawing.curves if curve.label == label)


def test_a_catalogue_that_grows_is_a_rising_curve() -> None:
    """From its first share to all items; what does not drift is flat."""
    live = curve(drawn({"growth": {"first": 0.5}})["Live items"], "alive")
    assert (live[0], live[-1]) == (30, 60)
    assert (np.diff(live) >= 0).all()
    still = drawn({})
    assert {"Clicks by place", "Delay of the clicks", "Users who are there"}.isdisjoint(still)
    assert all(np.ptp(each.y) < 1e-9 for drawing in still.values() for each in drawing.curves)


def test_shares_are_percent_of_all_clicks() -> None:
    """A season moves the categories, whose shares sum to 100; a shock lifts the items that it has drawn."""
    mix = drawn({"season": {"period_d": 5}})["Category mix of all users"]
    assert sum(each.y for each in mix.curves) == pytest.approx(np.full(len(mix.x), 100.0))
    head = drawn({"shock": {"at_d": 5, "items": 6, "factor": 40}})["Popularity of the head"]
    lifted = curve(head, "items of shocks")
    assert lifted[head.x >= 5].max() > 3 * lifted[head.x < 4.9].max()


def test_places_and_delays_are_those_of_the_clicks() -> None:
    """Higher places are clicked more often; the share of clicks that have come rises to nearly all."""
    drawing = drawn(SLATES)
    places = curve(drawing["Clicks by place"], "clicked")
    assert len(places) == 5
    assert places[0] > places[-1] > 0
    come = curve(drawing["Delay of the clicks"], "come")
    assert (np.diff(come) >= 0).all()
    assert come[-1] == pytest.approx(98, abs=0.5)


def test_the_papers_stream_is_drawn_by_records() -> None:
    """Available ids, and distinct items of a record."""
    live, distinct = drawings(load_scenario("paper").with_(records=100))
    assert live.x_label == "record"
    assert live.curves[0].y[0] == 8_000
    assert (distinct.curves[0].y <= 100).all()
