"""Recovery: how long a contestant needs after a moment (a shock, a rotation) until it is as good as before.

For each run, *before* is HR@10 pooled over the ten hundredths of the stream that end before the moment. After it,
HR@10 is smoothed by pooling three hundredths. The run has recovered at the first hundredth whose three reach 95 % of
before. The recovery time is the start of that hundredth minus the moment, in hundredths of the stream and in event
time; less than one hundredth means that no loss was seen, and counts as 0. *lowest* is the lowest smoothed HR@10 until
recovery, or until the end.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sim.experiment.hundredths import BUCKETS
from sim.report.analysis.curves import curves_of
from sim.report.analysis.results import Results

BEFORE: Final = 10  # hundredths of the stream
SMOOTHED: Final = 3
BACK: Final = 0.95
SCHEMA: Final[dict[str, type[pl.DataType]]] = {
    "scenario": pl.String,
    "moment": pl.String,
    "share": pl.Float64,
    "contestant": pl.String,
    "seed": pl.Int64,
    "before": pl.Float64,
    "lowest": pl.Float64,
    "recovered": pl.Boolean,
    "hundredths": pl.Float64,
    "event_ms": pl.Float64,
}


@dataclass(frozen=True)
class Line:
    """One run by hundredths of the stream: hits, targets and mean event time (NaN without targets)."""

    hits: NDArray[np.float64]
    targets: NDArray[np.float64]
    time_ms: NDArray[np.float64]

    def rate(self, first: int, end: int) -> float | None:
        """Return HR@10 pooled over hundredths; None without targets."""
        targets = self.targets[first:end].sum()
        return float(self.hits[first:end].sum() / targets) if targets else None

    def took_ms(self, begin: float, end: float) -> float | None:
        """Return the event time between two shares of the stream, interpolated; None if no time is known."""
        known = np.flatnonzero(np.isfinite(self.time_ms))
        if not len(known):
            return None
        first, last = np.interp([begin * BUCKETS, end * BUCKETS], known + 0.5, self.time_ms[known])
        return float(last - first)


def recoveries(results: Results, only: str | None = None) -> pl.DataFrame:
    """Return a row for each moment, contestant and seed, of all scenarios or of one; columns as in SCHEMA.

    `hundredths` and `event_ms` are null where the run did not recover within the stream. Moments without targets before
    them are left out.
    """
    return pl.DataFrame(
        list(_rows(results, results.scenarios if only is None else [only])), schema=SCHEMA, orient="row"
    )


def _rows(results: Results, scenarios: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for scenario in scenarios:
        moments = results.moments.filter(pl.col("scenario") == scenario)
        if moments.is_empty():
            continue
        lines = {key: line_of(group) for key, group in curves_of(results, scenario).group_by("contestant", "seed")}
        for moment in moments.iter_rows(named=True):
            for (contestant, seed), line in sorted(lines.items(), key=lambda item: str(item[0])):
                found = recovery(line, moment["share"]) if moment["seed"] in (seed, None) else None
                if found is not None:
                    yield scenario, moment["name"] or "moment", moment["share"], contestant, seed, *found


def line_of(curves: pl.DataFrame) -> Line:
    """Return one run's rows, pooled over ages."""
    timed = pl.col("targets").filter(pl.col("time_ms").is_not_null()).sum()
    sums = curves.group_by("bucket").agg(
        pl.col("hr10").sum(),
        pl.col("targets").sum(),
        ((pl.col("time_ms") * pl.col("targets")).sum() / timed).alias("time_ms"),
    )
    line = Line(np.zeros(BUCKETS), np.zeros(BUCKETS), np.full(BUCKETS, np.nan))
    buckets = sums["bucket"].to_numpy()
    line.hits[buckets], line.targets[buckets] = sums["hr10"].to_numpy(), sums["targets"].to_numpy()
    line.time_ms[buckets] = sums["time_ms"].to_numpy()
    return line


def recovery(line: Line, share: float) -> tuple[float, float | None, bool, float | None, float | None] | None:
    """Return before, lowest, recovered, hundredths and event time; None without a hit before the moment."""
    last, first = int(np.floor(share * BUCKETS + 1e-9)), int(np.ceil(share * BUCKETS - 1e-9))
    before = line.rate(max(last - BEFORE, 0), last)
    if not before:
        return None
    lowest: float | None = None
    for bucket in range(first, BUCKETS - SMOOTHED + 1):
        rate = line.rate(bucket, bucket + SMOOTHED)
        if rate is None:
            continue
        lowest = rate if lowest is None else min(lowest, rate)
        if rate >= BACK * before:
            hundredths = bucket - share * BUCKETS
            return before, lowest, True, hundredths, line.took_ms(share, bucket / BUCKETS) if hundredths >= 1 else 0.0
    return before, lowest, False, None, None


def noise(results: Results, scenario: str) -> tuple[float, float] | None:
    """Return the usual targets of SMOOTHED hundredths, and the relative standard error of HR@10 over them."""
    curves = curves_of(results, scenario).filter(pl.col("kind") != "oracle")
    sums = curves.group_by("run", "bucket").agg(pl.col("targets", "hr10").sum())
    targets, rates = sums["targets"].to_numpy(), (sums["hr10"] / sums["targets"]).to_numpy()
    if not len(targets) or not (rate := float(np.median(rates))):
        return None
    usual = SMOOTHED * float(np.median(targets))
    return usual, float(np.sqrt((1 - rate) / (rate * usual)))


def median(values: Sequence[float | None]) -> float | None:
    """Return the median, with None as infinite; None if the median is infinite."""
    ordered = sorted(math.inf if value is None else value for value in values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return None if math.isinf(middle) else middle
