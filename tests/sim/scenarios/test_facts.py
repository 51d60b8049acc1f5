"""Facts about a scenario: its parameters, its size, and figures of its stream."""

import numpy as np

from sim.scenarios.facts import figures, parameters, size
from sim.scenarios.scenario import load_scenario
from sim.world.events import Happening
from tests.sim.world.worlds import SLATES, scenario


def test_parameters_are_those_of_the_tables_there_are() -> None:
    """Each with its value, its meaning, and whether the file sets it; repeated tables are numbered."""
    made = scenario(shock=[{"at_d": 2}, {"at_d": 3, "factor": 7.5}], noise={"share": 0.25})
    rows = list(parameters(made))
    assert {row.table for row in rows} == {"base", "shock 1", "shock 2", "noise"}
    assert all(row.meaning for row in rows)
    found = {(row.table, row.key): (row.value, row.given) for row in rows}
    assert found["base", "events"] == ("3,000", True)
    assert found["base", "zipf"] == ("1", False)
    assert found["shock 2", "factor"] == ("7.5", True)
    assert found["noise", "share"] == ("0.25", True)


def test_sizes_are_in_the_units_of_the_stream() -> None:
    """Clicks, slates, or records."""
    assert size(scenario()) == "3,000 clicks"
    assert size(scenario(**SLATES)) == "3,000 slates"
    assert size(load_scenario("paper")) == "1,500 records of 128"


def test_figures_are_counted() -> None:
    """Events by kind, users who come, and clicks that are too late to be labels."""
    made = scenario(**SLATES, bots={"share": 0.1}, stream={"action_window_s": 300})
    shown = dict(figures(made))
    columns = made.source().columns
    clicks = columns.what == Happening.CLICK
    assert shown["events"] == f"{len(columns):,}: 3,000 slates, {clicks.sum():,} clicks"
    waited_ms = columns.ts_ms[clicks] - made.world.visits.ts_ms[columns.request[clicks]]
    assert shown["late clicks"].startswith(f"{np.mean(waited_ms >= 300_000):.1%} ")
    assert "of 40 come, 4 bots" in shown["users"]
    assert shown["the seer"].startswith("HR@10 0.")
