"""Tables of click probabilities: a row for each contestant, and normalised entropy by age of the item."""

from typing import Any, Final

import polars as pl

from model.data.item_age import SLICES
from sim.report.analysis.clicks import CONSTANT, ages_of, click_summary
from sim.report.analysis.results import Results
from sim.report.analysis.text import count, number, signed
from sim.report.html.elements import Cell, Column, Row, Table
from sim.report.html.tables import contestant

_FIGURES: Final = {"log_loss": "log-loss", "auc": "AUC", "gauc": "GAUC", "calibration": "calibration"}


def click_tables(results: Results, scenario: str) -> list[tuple[str, Table]]:
    """Return a title and a table for each action, of the whole stream; none where nobody has click probabilities."""
    rows = click_summary(results).filter(pl.col("scenario") == scenario)
    late = click_summary(results, "late").filter(pl.col("scenario") == scenario)
    actions = rows["action"].unique(maintain_order=True)
    of = {action: (rows.filter(action=action), late.filter(action=action)) for action in actions}
    return [(f"Probability of {action}", _table(results, scenario, action, *of[action])) for action in actions]


def _table(results: Results, scenario: str, action: str, rows: pl.DataFrame, late: pl.DataFrame) -> Table:
    late_of = {(row["contestant"], row["variant"]): row for row in late.iter_rows(named=True)}
    ages = ages_of(results, scenario, action)
    at_age = {(row["contestant"], row["variant"], row["age"]): row["ne"] for row in ages.iter_rows(named=True)}
    there = [age for age in SLICES if any(key[2] == age for key in at_age)]
    heads = ["NE", f"NE − {results.hstu}", results.in_words("NE, last {late}"), *_FIGURES.values()]
    columns = [Column("", number=False), *map(Column, heads), *(Column(f"NE, {age}") for age in there), Column("seeds")]
    shown = []
    for row in rows.iter_rows(named=True):
        who = row["contestant"], row["variant"]
        constant = row["contestant"] == CONSTANT
        name = "best constant" if constant else contestant(results, row["contestant"], scenario, row["variant"])
        cells = [_mean(row, "ne"), Cell(signed(row["gap"]), _half(row, "gap")), _mean(late_of.get(who, {}), "ne")]
        cells += [_mean(row, figure) for figure in _FIGURES]
        by_age = [number(at_age.get((*who, age))) for age in there]
        shown.append(Row([name, *cells, *by_age, str(row["seeds"])], "oracle" if constant else ""))
    caption = f"{count(rows['targets'][0])} impressions, {count(rows['positives'][0])} with a {action}, a run"
    return Table(columns, shown, caption)


def _mean(row: dict[str, Any], figure: str) -> Cell:
    return Cell(number(row.get(figure)), _half(row, figure))


def _half(row: dict[str, Any], figure: str) -> list[str]:
    half = row.get(f"{figure}_half")
    return [] if half is None else [f"± {number(half)}"]
