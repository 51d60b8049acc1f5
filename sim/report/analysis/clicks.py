"""Click probabilities of a comparison: means over seeds, and gaps in normalised entropy seed by seed.

Contestants that have click probabilities are compared on the same impressions; beside them stands the best constant,
which knows the base rate of these impressions. Figures: sim/experiment/click_tallies.py.
"""

import math
from typing import Final

import polars as pl

from model.evaluation.metrics import ALL
from sim.report.analysis.results import Results
from sim.report.analysis.statistics import critical

FIGURES: Final = ("ne", "log_loss", "auc", "gauc", "calibration")
CONSTANT: Final = "constant"
_AT: Final = ("scenario", "part", "action")


def click_summary(results: Results, part: str = "all") -> pl.DataFrame:
    """Return a row for each scenario, action, contestant and variant, the least normalised entropy first.

    Columns: scenario, part, action, contestant, variant, seeds, targets and positives (means of a run), each of FIGURES
    with half its 95 % interval over seeds as `<name>_half`; gap and gap_half: normalised entropy less that of HSTU,
    seed by seed; parameters, and cpu_ms, CPU milliseconds of test and training for an impression.
    """
    runs = results.runs.select("run", "scenario", "contestant", "variant", "seed", "parameters", "train_s", "test_s")
    rows = results.clicks.filter(pl.col("age") == ALL, pl.col("part") == part).join(runs, on="run")
    cpu_ms = 1000 * (pl.col("train_s") + pl.col("test_s")) / pl.col("targets")
    rows = rows.with_columns(cpu_ms.alias("cpu_ms"))
    constant = _constant(rows)
    rows = pl.concat([rows, constant], how="diagonal_relaxed")
    is_hstu = pl.col("contestant") == results.hstu
    base = rows.filter(is_hstu).group_by(*_AT, "seed").agg(pl.col("ne").min().alias("base"))
    rows = rows.join(base, on=[*_AT, "seed"], how="left", maintain_order="left")
    gap = pl.when(~is_hstu).then(pl.col("ne") - pl.col("base"))
    rows = rows.with_columns(gap.alias("gap"))
    figures = (*FIGURES, "gap")
    found = rows.group_by(*_AT, "contestant", "variant", maintain_order=True).agg(
        pl.col("seed").n_unique().alias("seeds"),
        *(pl.col(name).mean() for name in (*figures, "targets", "positives", "parameters", "cpu_ms")),
        *(pl.col(name).std().alias(f"{name}_half") for name in figures),
    )
    half = {seeds: critical(seeds - 1) / math.sqrt(seeds) for seeds in found["seeds"].unique() if seeds > 1}
    of_deviation = pl.col("seeds").replace_strict(half, default=None, return_dtype=pl.Float64)
    found = found.with_columns(pl.col(f"{name}_half") * of_deviation for name in figures)
    places = {scenario: place for place, scenario in enumerate(results.scenarios)}
    return found.sort(pl.col("scenario").replace_strict(places, return_dtype=pl.Int64), "action", "ne")


def ages_of(results: Results, scenario: str, action: str) -> pl.DataFrame:
    """Return normalised entropy by age of the item over the whole stream: contestant, variant, age, ne."""
    runs = results.runs.filter(pl.col("scenario") == scenario).select("run", "contestant", "variant")
    rows = results.clicks.filter(pl.col("action") == action, pl.col("part") == "all").join(runs, on="run")
    return rows.group_by("contestant", "variant", "age", maintain_order=True).agg(pl.col("ne").mean())


def _constant(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the best constant."""
    one = rows.unique([*_AT, "seed"], keep="first", maintain_order=True)
    return one.select(
        *(*_AT, "seed", "targets", "positives"),
        pl.lit(CONSTANT).alias("contestant"),
        pl.lit("").alias("variant"),
        (pl.col("log_loss") / pl.col("ne")).alias("log_loss"),
        *(
            pl.lit(value).alias(name)
            for name, value in (("ne", 1.0), ("calibration", 1.0), ("auc", 0.5), ("gauc", 0.5))
        ),
    )
