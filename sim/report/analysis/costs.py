"""What the contestants cost: plain means over runs of what the runs say they took."""

import polars as pl

from sim.report.analysis.results import Results
from sim.report.analysis.statistics import tuned

_MEANS = ("train_s", "test_s", "tokens_per_s", "steps")


def costs(results: Results, *, by_scenario: bool = True) -> pl.DataFrame:
    """Give a row for each contestant (and scenario), of its tuned variants; an oracle costs nothing that compares.

    Columns: [scenario, scenario_title,] contestant, title, kind, [variant, variants,] runs, train_s, test_s,
    tokens_per_s, steps (means over runs), parameters, parameters_max (fewest and most of one run).
    """
    runs = results.runs.filter(pl.col("kind") != "oracle")
    runs = runs.join(tuned(runs), on=["scenario", "contestant", "variant"], maintain_order="left")
    by = ["contestant", "title", "kind"]
    by = ["scenario", "scenario_title", *by, "variant", "variants"] if by_scenario else by
    table = runs.group_by(by, maintain_order=True).agg(
        pl.len().alias("runs"),
        *(pl.col(name).mean() for name in _MEANS),
        pl.col("parameters").min(),
        pl.col("parameters").max().alias("parameters_max"),
    )
    places = {scenario: place for place, scenario in enumerate(results.scenarios)}
    first = [pl.col("scenario").replace_strict(places, return_dtype=pl.Int64)] if by_scenario else []
    return table.sort([*first, -pl.col("train_s"), pl.col("contestant")], nulls_last=True)
