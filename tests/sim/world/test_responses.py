"""Responses to slates: when clicks come, and which do not."""

from typing import Any

import numpy as np
import pytest

from sim.world.events import Happening
from sim.world.responses import dies_ms
from tests.sim.world.worlds import scenario

MANY = {"events": 20_000, "session": 1.0}


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
