"""Means over seeds, gaps by seed, fractions of the upper bound, with 95 % intervals by Student's t; costs.

Each seed has the same weight in a mean. A gap is taken within a seed, on the same examples, and then averaged, so that
what makes one seed's stream easier for all cancels out. An interval needs two seeds; with one it is null. A contestant
that ran in several variants (learning rates) is represented by the variant with the best mean HR@10 ("tuned"), chosen
on the metrics that are shown.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import polars as pl
from scipy.special import stdtrit

from sim.report.analysis.results import METRICS, PREFIXES, Results

CONFIDENCE: Final = 0.95
_ROW = ("scenario", "contestant", "variant", "protocol")
_WHO: Final = ("scenario", "scenario_title", "protocol", "contestant", "title", "kind")
_COSTS: Final = ("train_s", "test_s", "tokens_per_s", "steps")


def measured(runs: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each metric: scenario, contestant, variant, seed, kind, protocol, metric, value, targets."""
    key = ["scenario", "contestant", "variant", "seed", "kind"]
    parts = [
        runs.select(
            *key,
            pl.lit(protocol).alias("protocol"),
            pl.col(f"{prefix}targets").alias("targets"),
            *(pl.col(prefix + metric).alias(metric) for metric in METRICS),
        )
        for protocol, prefix in PREFIXES.items()
    ]
    long = pl.concat(parts).unpivot(METRICS, index=[*key, "protocol", "targets"], variable_name="metric")
    return long.drop_nulls("value")


def tuned(runs: pl.DataFrame) -> pl.DataFrame:
    """Return the variant that represents each contestant: scenario, contestant, variant, variants (their number).

    Of those with the most seeds it has the best mean HR@10, in a closed loop the least mean regret; of equal means, the
    first name.
    """
    by = ["scenario", "contestant"]
    of_each = runs.group_by(*by, "variant", maintain_order=True).agg(
        pl.max_horizontal(pl.col("hr10").count(), pl.col("regret").count()).alias("seeds"),
        pl.coalesce(pl.col("hr10").mean(), -pl.col("regret").mean()).alias("mean"),
    )
    order = of_each.sort("seeds", "mean", "variant", descending=[True, True, False], nulls_last=True)
    best = order.group_by(by, maintain_order=True).agg(pl.first("variant"), pl.len().alias("variants"))
    return runs.select(by).unique(maintain_order=True).join(best, on=by, maintain_order="left")


def summary(results: Results, *, every_variant: bool = False) -> pl.DataFrame:
    """Return a row for each scenario, protocol and contestant, the best HR@10 first.

    Columns: scenario, scenario_title, protocol, contestant, title, kind, variant, variants, seeds, targets (mean a
    run); for each metric its mean and `<metric>_half`, half the interval; `of_oracle` and `of_oracle_half`, HR@10 as
    a share of the upper bound's, seed by seed.
    """
    runs = results.runs
    figures = measured(runs)
    if not every_variant:
        figures = figures.join(
            tuned(runs).select("scenario", "contestant", "variant"), on=["scenario", "contestant", "variant"]
        )
    means = _spread(figures, [*_ROW, "metric"])
    wide = means.pivot("metric", index=_ROW, values=["mean", "half"])
    columns = [_column(wide, f"{part}_{metric}", f"{metric}{tail}") for metric in METRICS for part, tail in _PARTS]
    size = (
        figures.filter(pl.col("metric") == "hr10")
        .group_by(_ROW)
        .agg(pl.len().alias("seeds"), pl.col("targets").mean().alias("targets"))
    )
    table = wide.select(*_ROW, *columns).join(size, on=_ROW, how="left").join(_fractions(figures), on=_ROW, how="left")
    table = table.join(_names(runs), on=["scenario", "contestant"]).join(
        tuned(runs).select("scenario", "contestant", "variants"), on=["scenario", "contestant"]
    )
    figures_shown = [f"{metric}{tail}" for metric in (*METRICS, "of_oracle") for _, tail in _PARTS]
    lead = (
        *_WHO,
        "variant",
        "variants",
        "seeds",
        "targets",
    )
    return _in_order(table.select(*lead, *figures_shown), results)


_PARTS: Final = (("mean", ""), ("half", "_half"))


def _column(wide: pl.DataFrame, name: str, alias: str) -> pl.Expr:
    return (pl.col(name) if name in wide.columns else pl.lit(None, pl.Float64)).alias(alias)


def _in_order(table: pl.DataFrame, results: Results) -> pl.DataFrame:
    scenarios = {scenario: place for place, scenario in enumerate(results.scenarios)}
    protocols = {protocol: place for place, protocol in enumerate(PREFIXES)}
    order = [
        pl.col("scenario").replace_strict(scenarios, return_dtype=pl.Int64),
        pl.col("protocol").replace_strict(protocols, return_dtype=pl.Int64),
        -pl.col("hr10"),
        pl.col("contestant"),
        pl.col("variant"),
    ]
    return table.sort(order, nulls_last=True)


def _spread(figures: pl.DataFrame, by: list[str], value: str = "value") -> pl.DataFrame:
    """Return averages over seeds: `by`, seeds, mean, half (null for one seed)."""
    groups = figures.group_by(by, maintain_order=True).agg(
        pl.len().alias("seeds"), pl.col(value).mean().alias("mean"), pl.col(value).std().alias("deviation")
    )
    seeds = groups["seeds"].unique().to_list()
    t = {n: critical(n - 1) if n > 1 else None for n in seeds}
    factor = pl.col("seeds").replace_strict(t, return_dtype=pl.Float64) if t else pl.lit(None, pl.Float64)
    return groups.with_columns((factor * pl.col("deviation") / pl.col("seeds").sqrt()).alias("half")).drop("deviation")


def _names(runs: pl.DataFrame) -> pl.DataFrame:
    return runs.select("scenario", "scenario_title", "contestant", "title", "kind").unique(["scenario", "contestant"])


def regrets(results: Results, against: str = "softmax") -> pl.DataFrame:
    """Return the mean regret a request of each contestant in each closed loop, the least first.

    Columns: scenario, contestant, variant, seeds, regret, late_regret (of the last tenth), gap (regret less that of the
    best variant of `against`, seed by seed), each of the three with half its interval as `<name>_half`.
    """
    rows = results.runs.drop_nulls("regret")
    by = ["scenario", "contestant", "variant"]
    best = tuned(rows).filter(pl.col("contestant") == against).select(by)
    base = rows.join(best, on=by).select("scenario", "seed", pl.col("regret").alias("base"))
    pairs = rows.filter(pl.col("contestant") != against).join(base, on=["scenario", "seed"])
    pairs = pairs.with_columns((pl.col("regret") - pl.col("base")).alias("gap"))
    table = _named_spread(rows, by, "regret")
    for found, name in ((rows, "late_regret"), (pairs, "gap")):
        table = table.join(_named_spread(found, by, name).drop("seeds"), on=by, how="left")
    return table.sort("scenario", "regret", maintain_order=True)


def _named_spread(rows: pl.DataFrame, by: list[str], name: str) -> pl.DataFrame:
    return _spread(rows.drop_nulls(name), by, name).rename({"mean": name, "half": f"{name}_half"})


def reference(kinds: pl.DataFrame) -> str | None:
    """Return the name of the upper bound: the contestant called oracle, else the first of that kind."""
    names = kinds.filter(pl.col("kind") == "oracle")["contestant"].unique().sort().to_list()
    return "oracle" if "oracle" in names else next(iter(names), None)


def _fractions(figures: pl.DataFrame) -> pl.DataFrame:
    """Return HR@10 over that of the upper bound on the same seed: _ROW, of_oracle, of_oracle_half."""
    hr10 = figures.filter(pl.col("metric") == "hr10")
    bound = hr10.filter(pl.col("contestant") == (reference(hr10) or "")).select(
        "scenario", "seed", "protocol", pl.col("value").alias("bound")
    )
    shares = hr10.join(bound.filter(pl.col("bound") > 0), on=["scenario", "seed", "protocol"]).with_columns(
        (pl.col("value") / pl.col("bound")).alias("share")
    )
    spread = _spread(shares, list(_ROW), "share")
    return spread.select(*_ROW, pl.col("mean").alias("of_oracle"), pl.col("half").alias("of_oracle_half"))


def gaps(results: Results, against: str = "softmax", *, same_variant: bool = False) -> pl.DataFrame:
    """Return each contestant's lead over `against`, paired by seed, for each scenario, protocol and metric.

    Columns: scenario, scenario_title, protocol, contestant, title, kind, metric, variant, against_variant, seeds,
    gap, half, low, high, base (mean of `against` on the seeds in common), relative, relative_low, relative_high (of
    base), verdict (ahead, behind, equal, open, one seed). Tuned variants against each other, or with `same_variant`
    every variant against the same one.
    """
    runs = results.runs.filter(pl.col("kind") != "oracle")
    figures = measured(runs)
    if not same_variant:
        figures = figures.join(
            tuned(runs).select("scenario", "contestant", "variant"), on=["scenario", "contestant", "variant"]
        )
    at = ["scenario", "seed", "protocol", "metric", *(["variant"] if same_variant else [])]
    base = figures.filter(pl.col("contestant") == against).select(
        *dict.fromkeys(at), pl.col("variant").alias("against_variant"), pl.col("value").alias("base")
    )
    pairs = figures.filter(pl.col("contestant") != against).join(base, on=at, maintain_order="left")
    pairs = pairs.with_columns((pl.col("value") - pl.col("base")).alias("gap"))
    by = ["scenario", "contestant", "variant", "against_variant", "protocol", "metric"]
    bases = pairs.group_by(by).agg(pl.col("base").mean())
    spread = _spread(pairs, by, "gap").rename({"mean": "gap"}).join(bases, on=by)
    table = _with_verdicts(spread).join(_names(runs), on=["scenario", "contestant"])
    lead = (
        *_WHO,
        "metric",
        "variant",
        "against_variant",
    )
    numbers = ("seeds", "gap", "half", "low", "high", "base", "relative", "relative_low", "relative_high", "verdict")
    places = {metric: place for place, metric in enumerate(METRICS)}
    in_hr10 = pl.col("gap").filter(pl.col("metric") == "hr10").max().over("scenario", "protocol", "contestant")
    ordered = table.with_columns(
        pl.col("metric").replace_strict(places, return_dtype=pl.Int64).alias("place"), in_hr10.alias("hr10")
    ).sort("place")
    return _in_order(ordered, results).select(*lead, *numbers)


def _with_verdicts(spread: pl.DataFrame) -> pl.DataFrame:
    limits = spread.with_columns(
        (pl.col("gap") - pl.col("half")).alias("low"), (pl.col("gap") + pl.col("half")).alias("high")
    )
    base = pl.when(pl.col("base") > 0).then(pl.col("base"))
    relative = [(pl.col(name) / base).alias(alias) for name, alias in _RELATIVE]
    verdict = (
        pl.when(pl.col("half").is_null()).then(pl.lit("one seed"))
        .when((pl.col("gap") == 0) & (pl.col("half") == 0)).then(pl.lit("equal"))
        .when(pl.col("low") > 0).then(pl.lit("ahead"))
        .when(pl.col("high") < 0).then(pl.lit("behind"))
        .otherwise(pl.lit("open"))
    )  # fmt: skip
    return limits.with_columns(*relative, verdict.alias("verdict"))


_RELATIVE: Final = (("gap", "relative"), ("low", "relative_low"), ("high", "relative_high"))


def half_width(values: Sequence[float]) -> float | None:
    """Return half the width of the 95 % interval of the mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return critical(n - 1) * math.sqrt(variance / n)


@lru_cache
def critical(df: int) -> float:
    """Return the two-sided 5 % critical value of Student's t for `df` degrees of freedom, 1 or more."""
    return float(stdtrit(df, (1 + CONFIDENCE) / 2))


def costs(results: Results, *, by_scenario: bool = True) -> pl.DataFrame:
    """Return the costs of each contestant (and scenario), of its tuned variants; upper bounds are left out.

    Columns: [scenario, scenario_title,] contestant, title, kind, [variant, variants,] runs, train_s, test_s,
    tokens_per_s, steps (means over runs), parameters, parameters_max (fewest and most of one run).
    """
    runs = results.runs.filter(pl.col("kind") != "oracle")
    runs = runs.join(tuned(runs), on=["scenario", "contestant", "variant"], maintain_order="left")
    by = ["contestant", "title", "kind"]
    by = ["scenario", "scenario_title", *by, "variant", "variants"] if by_scenario else by
    table = runs.group_by(by, maintain_order=True).agg(
        pl.len().alias("runs"),
        *(pl.col(name).mean() for name in _COSTS),
        pl.col("parameters").min(),
        pl.col("parameters").max().alias("parameters_max"),
    )
    places = {scenario: place for place, scenario in enumerate(results.scenarios)}
    first = [pl.col("scenario").replace_strict(places, return_dtype=pl.Int64)] if by_scenario else []
    return table.sort([*first, -pl.col("train_s"), pl.col("contestant")], nulls_last=True)
