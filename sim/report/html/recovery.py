"""Recovery after moments as tables: each seed's time and the median, and how much chance alone changes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from sim.report.analysis.recovery import BACK, BEFORE, SMOOTHED, median, noise, recoveries
from sim.report.analysis.results import Results
from sim.report.analysis.statistics import summary
from sim.report.analysis.text import NOTHING, duration, number, percent
from sim.report.html.elements import Cell, Column, Row, Shown, Table
from sim.report.html.tables import contestant

_COLUMNS = (
    Column("", number=False),
    Column("back after, hundredths of the stream"),
    Column("event time, median"),
    Column("HR@10 before"),
    Column("lowest"),
)


@dataclass(frozen=True)
class Recovery:
    """A table for each moment, a row for each contestant, and how they were made."""

    tables: list[Table]
    how: str


def recovery_of(results: Results, scenario: str) -> Recovery | None:
    """Return the tables of a scenario; None without moments."""
    rows = recoveries(results, scenario)
    if rows.is_empty():
        return None
    groups = rows.group_by("moment", "contestant", maintain_order=True).agg(
        pl.col("before", "lowest", "share").mean(), pl.col("hundredths", "event_ms").sort_by("seed")
    )
    ranks = {name: place for place, name in enumerate(summary(results).filter(scenario=scenario)["contestant"])}
    tables: dict[str, list[Row]] = {}
    for row in sorted(groups.iter_rows(named=True), key=lambda row: (row["share"], ranks.get(row["contestant"], 0))):
        share = f" ({percent(row['lowest'] / row['before'], 0)})" if row["lowest"] is not None else ""
        cells: list[Shown] = [
            contestant(results, row["contestant"], scenario),
            _times(row["hundredths"]),
            duration(median(row["event_ms"])),
            number(row["before"]),
            number(row["lowest"]) + share,
        ]
        tables.setdefault(row["moment"], []).append(Row(cells))
    at = {moment: group["share"].to_numpy().mean() for (moment,), group in groups.group_by("moment")}
    shown = [
        Table(_COLUMNS, found, f"{moment}, at {percent(at[moment], 0)} of the stream")
        for moment, found in tables.items()
    ]
    return Recovery(shown, _how(results, scenario))


def _how(results: Results, scenario: str) -> str:
    how = (
        f"Back: the first hundredth of the stream after the moment that opens {SMOOTHED} hundredths whose pooled "
        f"HR@10 is at least {percent(BACK, 0)} of that of the {BEFORE} hundredths before it; 0: no loss seen. Lowest: "
        f"of {SMOOTHED} hundredths until then, and in brackets as a share of before. "
        "Means over seeds; times of each seed."
    )
    if found := noise(results, scenario):
        how += (
            f" {SMOOTHED} hundredths hold about {found[0]:,.0f} targets a run, so by chance alone the smoothed figure "
            f"of a usual contestant moves by about {percent(found[1], 0)} of its size: differences of a few hundredths "
            "mean little."
        )
    return how


def _times(hundredths: Sequence[float | None]) -> Cell:
    """Return each seed's time in hundredths of the stream and the median; what did not come back counts as last."""
    if all(value is None for value in hundredths):
        return Cell("not within the stream")
    each = Cell(", ".join(NOTHING if value is None else "0" if value < 1 else number(value, 0) for value in hundredths))
    if len(hundredths) == 1:
        return each
    middle, lost = median(hundredths), sum(value is None for value in hundredths)
    below = ["median not within the stream" if middle is None else f"median {number(middle, 0)}"]
    below += [f"–: not within the stream ({lost} of {len(hundredths)} seeds)"] if lost else []
    return Cell(each.text, below)
