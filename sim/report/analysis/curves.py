"""Hit rates over the stream and by item age.

Hits are pooled over the targets of a run; runs are then averaged, each seed with the same weight. Curves are of tuned
variants. A point of a curve pools as many neighbouring hundredths of the stream as hold 1,000 targets a run, at most
ten.
"""

import math
from typing import Final

import polars as pl

from model.data.item_age import SLICES
from sim.experiment.hundredths import BUCKETS
from sim.report.analysis.results import Results
from sim.report.analysis.statistics import half_width, tuned

TARGETS_A_POINT: Final = 1000
LEAST_TARGETS: Final = 50  # of an age slice in one run; a slice with fewer is left out
_POOLS: Final = (1, 2, 4, 5, 10)
_Z: Final = 1.959963984540054  # 97.5 % quantile of the normal distribution


def curves_of(results: Results, scenario: str, metric: str = "hr10") -> pl.DataFrame:
    """Return the curves of one scenario's tuned runs for a metric, with contestant, kind and seed."""
    runs = results.runs.filter(pl.col("scenario") == scenario).join(
        tuned(results.runs), on=["scenario", "contestant", "variant"], how="semi", maintain_order="left"
    )
    rows = results.curves.drop_nulls(metric).filter(
        (pl.col("targets") > 0) & pl.col("bucket").is_between(0, BUCKETS - 1)
    )
    return runs.select("run", "contestant", "kind", "seed").join(rows, on="run", maintain_order="left_right")


def pool_size(curves: pl.DataFrame, most_points: int = 50) -> int:
    """Return the number of hundredths of a point: enough for TARGETS_A_POINT in a usual run, at most ten."""
    targets = curves.group_by("run", "bucket").agg(pl.col("targets").sum())["targets"].median()
    usual = float(targets) if isinstance(targets, int | float) else 0.0
    fit = (size for size in _POOLS if size * usual >= TARGETS_A_POINT and BUCKETS // size <= most_points)
    return next(fit, _POOLS[-1])


def over_stream(results: Results, scenario: str, most_points: int = 50) -> tuple[pl.DataFrame, int]:
    """Return HR@10 over the stream, and the number of hundredths that a point pools.

    Columns: contestant, share (middle of the point, 0 to 1), hr10 (mean over seeds), low, high (lowest and highest
    seed; of one seed Wilson's 95 % interval of its targets), seeds, targets (fewest in a run).
    """
    curves = curves_of(results, scenario)
    size = pool_size(curves, most_points)
    return _with_wilson(_points(curves, "hr10", size)), size


def regret_over_stream(results: Results, scenario: str) -> tuple[pl.DataFrame, int]:
    """Return the regret a request over a closed loop; columns as in `over_stream`, with `regret` for `hr10`."""
    size = 5
    return _points(curves_of(results, scenario, "regret"), "regret", size), size


def _points(curves: pl.DataFrame, metric: str, size: int) -> pl.DataFrame:
    point = ((pl.col("bucket") // size) * size + size / 2) / BUCKETS
    pooled = curves.group_by("contestant", "seed", point.alias("share")).agg(pl.col("targets", metric).sum())
    rows = pooled.with_columns((pl.col(metric) / pl.col("targets")).alias("rate"))
    return (
        rows.group_by("contestant", "share")
        .agg(
            pl.col("rate").sort_by("seed").mean().alias(metric),
            pl.col("rate").min().alias("low"),
            pl.col("rate").max().alias("high"),
            pl.len().alias("seeds"),
            pl.col("targets").min(),
        )
        .sort("contestant", "share")
    )


def _with_wilson(points: pl.DataFrame) -> pl.DataFrame:
    """Replace low and high of points with one seed by Wilson's interval."""
    bands = [wilson(rate * targets, targets) for rate, targets in points.select("hr10", "targets").iter_rows()]
    one = pl.col("seeds") == 1
    return points.with_columns(
        pl.when(one).then(pl.Series([low for low, _ in bands], dtype=pl.Float64)).otherwise("low").alias("low"),
        pl.when(one).then(pl.Series([high for _, high in bands], dtype=pl.Float64)).otherwise("high").alias("high"),
    )


def wilson(hits: float, targets: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate."""
    rate, z2 = hits / targets, _Z * _Z
    middle = (rate + z2 / (2 * targets)) / (1 + z2 / targets)
    half = _Z * math.sqrt(rate * (1 - rate) / targets + z2 / (4 * targets * targets)) / (1 + z2 / targets)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def by_age(results: Results, scenario: str) -> pl.DataFrame:
    """Return HR@10 by item age: contestant, age, share (of its targets), targets (a run), hr10, low, high, seeds.

    Means over seeds with Student's 95 % interval; Wilson's for one seed. Slices with fewer than LEAST_TARGETS a run are
    left out, and so is `unseen` where it has no hit.
    """
    curves = curves_of(results, scenario).filter(pl.col("age").is_in(SLICES))  # upper bounds have no ages
    slices = curves.group_by("contestant", "seed", "age").agg(pl.col("targets", "hr10").sum())
    slices = slices.with_columns(
        (pl.col("hr10") / pl.col("targets")).alias("rate"),
        (pl.col("targets") / pl.col("targets").sum().over("contestant", "seed")).alias("share"),
    )
    rows = []
    for (contestant, age), group in slices.sort("contestant", "seed").group_by(
        "contestant", "age", maintain_order=True
    ):
        rates, targets = group["rate"].to_list(), float(group["targets"].sum()) / group.height
        if targets < LEAST_TARGETS:
            continue
        mean, half = math.fsum(rates) / len(rates), half_width(rates)
        low, high = wilson(mean * targets, targets) if half is None else (mean - half, mean + half)
        share = math.fsum(group["share"]) / group.height
        rows.append((contestant, age, share, targets, mean, low, high, group.height))
    names = ("contestant", "age", "share", "targets", "hr10", "low", "high", "seeds")
    types = (pl.String, pl.String, *[pl.Float64] * 5, pl.Int64)
    table = pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")
    unhit = table.filter(pl.col("age") == "unseen")["hr10"].max() == 0
    table = table.filter(pl.col("age") != "unseen") if unhit else table
    places = {age: place for place, age in enumerate(SLICES)}
    order = pl.col("age").replace_strict(places, return_dtype=pl.Int64)
    return table.sort("contestant", order)
