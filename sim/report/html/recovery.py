"""Recovery after moments as tables: every seed's time and the median, and what chance alone does to them."""

import math
from collections.abc import Sequence
from html import escape

import polars as pl

from sim.report.analysis.recovery import BACK, BEFORE, SMOOTHED, chance, recoveries
from sim.report.analysis.results import Results
from sim.report.analysis.statistics import summary
from sim.report.analysis.text import NOTHING, duration, number, percent
from sim.report.html.elements import Column, paragraph, table
from sim.report.html.tables import contestant

_COLUMNS = (
    Column("", number=False),
    Column("back after, hundredths of the stream"),
    Column("event time, median"),
    Column("HR@10 before"),
    Column("lowest"),
)


def recovery_section(results: Results, scenario: str) -> str:
    """Give a table for each moment, a row for each contestant, and how it was made; nothing without moments."""
    rows = recoveries(results, scenario)
    if rows.is_empty():
        return ""
    groups = rows.group_by("moment", "contestant", maintain_order=True).agg(
        pl.col("before", "lowest", "share").mean(), pl.col("hundredths", "event_ms").sort_by("seed")
    )
    ranks = {name: place for place, name in enumerate(summary(results).filter(scenario=scenario)["contestant"])}
    tables: dict[str, list[list[str]]] = {}
    for row in sorted(groups.iter_rows(named=True), key=lambda row: (row["share"], ranks.get(row["contestant"], 0))):
        lowest = (
            f"{number(row['lowest'])} ({percent(row['lowest'] / row['before'], 0)})"
            if row["lowest"] is not None
            else NOTHING
        )
        name, middle = contestant(results, row["contestant"], scenario), median(row["event_ms"])
        cells = [name, _times(row["hundredths"]), duration(middle), number(row["before"]), lowest]
        tables.setdefault(row["moment"], []).append(cells)
    at = {moment: group["share"].to_numpy().mean() for (moment,), group in groups.group_by("moment")}
    shown = (
        table(_COLUMNS, found, f"{escape(moment)}, at {percent(at[moment], 0)} of the stream")
        for moment, found in tables.items()
    )
    return f"<h3>Recovery</h3>\n{''.join(shown)}{paragraph(_how(results, scenario), 'notes')}"


def _how(results: Results, scenario: str) -> str:
    how = (
        f"Back: the first hundredth of the stream after the moment that opens {SMOOTHED} hundredths whose pooled "
        f"HR@10 is at least {percent(BACK, 0)} of that of the {BEFORE} hundredths before it; 0: no loss seen. Lowest: "
        f"of {SMOOTHED} hundredths until then, and in brackets as a share of before. "
        "Means over seeds; times of each seed."
    )
    if noise := chance(results, scenario):
        how += (
            f" {SMOOTHED} hundredths hold about {noise[0]:,.0f} targets a run, so by chance alone the smoothed figure "
            f"of a usual contestant moves by about {percent(noise[1], 0)} of its size: differences of a few hundredths "
            "mean little."
        )
    return how


def _times(hundredths: Sequence[float | None]) -> str:
    """Show each seed's time in hundredths of the stream and the median; runs that did not come back count as last."""
    if all(value is None for value in hundredths):
        return "not within the stream"
    each = ", ".join(NOTHING if value is None else "0" if value < 1 else number(value, 0) for value in hundredths)
    if len(hundredths) == 1:
        return each
    middle, lost = median(hundredths), sum(value is None for value in hundredths)
    told = "median not within the stream" if middle is None else f"median {number(middle, 0)}"
    losses = f"<br>–: not within the stream ({lost} of {len(hundredths)} seeds)" if lost else ""
    return f"{each}<small>{told}{losses}</small>"


def median(values: Sequence[float | None]) -> float | None:
    """Give the median where None is endless; None if it falls there."""
    ordered = sorted(math.inf if value is None else value for value in values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return None if math.isinf(middle) else middle
