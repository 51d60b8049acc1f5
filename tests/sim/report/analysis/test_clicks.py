"""Click probabilities of a comparison, from rows with known figures."""

import polars as pl
import pytest

from sim.compare.click_tables import click_tables
from sim.report.analysis.clicks import CONSTANT, ages_of, click_summary
from sim.report.analysis.results import CLICKS, Results
from sim.report.html.clicks import click_tables as page_tables
from tests.sim.report.report_folders import ABOUT, run

NE = {("silu", 0): 0.9, ("silu", 1): 0.8, ("din", 0): 0.8, ("din", 1): 0.8}


def results(own: str = "silu") -> Results:
    """Return two contestants on two seeds; log-loss is half of NE, so that the constant's is 0.5."""
    entropies = {(who.replace("silu", own), seed): ne for (who, seed), ne in NE.items()}
    runs = pl.DataFrame([run("slates", who, seed, 0.1, late_share=0.1) for who, seed in entropies])
    rows = [
        {"run": f"slates-{who}--{seed}", "part": part, "action": "click", "age": age}
        | {
            "targets": 100.0,
            "positives": 20.0,
            "ne": ne,
            "log_loss": ne / 2,
            "auc": 0.6,
            "gauc": 0.7,
            "calibration": 1.1,
        }
        for (who, seed), ne in entropies.items()
        for part in ("all", "late")
        for age in ("all", "old")
    ]
    return Results(runs, pl.DataFrame(), pl.DataFrame(), dict(ABOUT), (), pl.DataFrame(rows, CLICKS))


@pytest.mark.parametrize("own", ["silu", "hstu"])
def test_contestants_are_ordered_by_entropy_with_the_constant_beside_them(own: str) -> None:
    """Means over seeds; gaps to HSTU are taken within each seed; the constant has 1, a half, and its own log-loss."""
    din, silu, constant = click_summary(results(own)).iter_rows(named=True)
    assert [row["contestant"] for row in (din, silu, constant)] == ["din", own, CONSTANT]
    assert (din["ne"], silu["ne"], constant["ne"]) == pytest.approx((0.8, 0.85, 1.0))
    assert (constant["log_loss"], constant["auc"], constant["seeds"]) == (0.5, 0.5, 2)
    assert din["gap"] == pytest.approx(-0.05)
    assert din["gap_half"] == pytest.approx(12.706 * 0.05, rel=1e-3)  # two seeds, gaps of -0.1 and 0
    assert silu["gap"] is None
    assert din["cpu_ms"] == pytest.approx(1000 * 12 / 100)


def test_ages_have_figures_of_their_own() -> None:
    """A mean over seeds for each contestant and age."""
    found = ages_of(results(), "slates", "click")
    assert found.filter(contestant="silu", age="old")["ne"].to_list() == pytest.approx([0.85])


def test_the_page_has_a_table_for_each_action() -> None:
    """Figures, and normalised entropy by age; nothing for another scenario."""
    ((title, table),) = page_tables(results(), "slates")
    heads = [column.title for column in table.columns]
    assert title == "Probability of click"
    assert heads[-2:] == ["NE, old", "seeds"]
    assert [row.cells[-2] for row in table.rows] == ["0.8000", "0.8500", "–"]
    assert page_tables(results(), "elsewhere") == []


def test_a_terminal_shows_a_table_for_each_action() -> None:
    """Figures of both parts; nothing where nobody has click probabilities."""
    (table,) = click_tables(results())
    assert table.title == "slates, probability of click: 20 of 100 shown"
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["din", "silu", "best constant"]
    assert cells[2][1] == cells[4][1] == "0.8500 ± 0.6353"
    empty = results()
    assert not list(click_tables(Results(empty.runs, empty.curves, empty.moments, {}, (), pl.DataFrame(schema=CLICKS))))
