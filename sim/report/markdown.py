"""The report's first tables as Markdown, for a document with the plots of `save_figures`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from sim.report.analysis.results import METRIC_TITLES, METRICS, PROTOCOLS, Results
from sim.report.analysis.statistics import gaps, summary
from sim.report.analysis.text import NOTHING, answer, interval, percent, signed, spread


def markdown(results: Results, against: str = "softmax") -> str:
    """Return the answer in sentences, then a heading and a table for each scenario and protocol."""
    parts = ["\n".join(f"- {text}" for text in answer(results, against))]
    found = gaps(results, against).filter(pl.col("metric") == "hr10")
    for scenario in results.scenarios:
        parts.append(f"### {results.scenario_title(scenario)}")
        for protocol, title in PROTOCOLS.items():
            here = (pl.col("scenario") == scenario) & (pl.col("protocol") == protocol)
            rows = summary(results).filter(here)
            if rows.filter(pl.col("kind") != "oracle").height:
                gap_of = {row["contestant"]: row for row in found.filter(here).iter_rows(named=True)}
                parts += [f"HR@10 and its companions; {results.in_words(title)}:", _table(rows, gap_of, against)]
    return "\n\n".join(parts) + "\n"


def _table(rows: pl.DataFrame, gap_of: Mapping[str, Mapping[str, Any]], against: str) -> str:
    head = ["", *(METRIC_TITLES[metric] for metric in METRICS), f"HR@10 − {against}", "of the best possible", "seeds"]
    body = []
    for row in rows.iter_rows(named=True):
        variant = f", {row['variant']}" if row["variant"] else ""
        cells = [f"{row['title']}{variant}", *(spread(row[metric], row[f"{metric}_half"]) for metric in METRICS)]
        share = "" if row["of_oracle_half"] is None else f" ± {100 * row['of_oracle_half']:.1f}"
        body.append([*cells, _gap(gap_of.get(row["contestant"])), percent(row["of_oracle"]) + share, str(row["seeds"])])
    return "\n".join(_lines([head, ["---", *["---:"] * (len(head) - 1)], *body]))


def _gap(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return NOTHING
    relative = f" ({percent(row['relative'], sign=True)})" if row["relative"] is not None else ""
    limits = f" {interval(row['low'], row['high'])}" if row["half"] is not None else ""
    return f"{signed(row['gap'])}{relative}{limits}"


def _lines(rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Yield the lines of a table; bars in cells are escaped."""
    return (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
