"""Sentences on what is missing or contradictory in a comparison."""

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

_SHOWN = 6  # names in one sentence before "and N more"


def missing_parts(rows: int, runs: pl.DataFrame, curves: pl.DataFrame, about: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that is missing or contradictory.

    Args:
        rows: The number of rows of runs.parquet, repeated runs included.
        runs: Its rows without repeats.
        curves: Rows of curves.parquet.
        about: Content of about.json.
    """
    return [
        *_unfinished(runs, about),
        *_repeats(rows, runs),
        *_absent_runs(runs),
        *_absent_parts(runs, curves),
        *_unequal(runs),
        *_refused(runs),
    ]


def _unfinished(runs: pl.DataFrame, about: dict[str, Any]) -> Iterator[str]:
    if about and not about.get("finished"):
        yield "The comparison has not finished: about.json names no end."
    planned = about.get("planned")
    if isinstance(planned, int) and planned > runs.height:
        yield f"{planned - runs.height} of {planned} planned runs have not ended."


def _repeats(rows: int, runs: pl.DataFrame) -> Iterator[str]:
    if rows > runs.height:
        yield (
            f"{rows - runs.height} rows of runs.parquet repeat a run of the same scenario, contestant, variant and "
            "seed: the last counts."
        )


def _absent_runs(runs: pl.DataFrame) -> Iterator[str]:
    """Expect each contestant in each scenario, its variants there with each seed; an oracle where it has a run."""
    for (contestant, kind), group in runs.group_by("contestant", "kind", maintain_order=True):
        expected = group if kind == "oracle" else runs
        lost: list[str] = []
        for scenario in expected["scenario"].unique(maintain_order=True):
            here = group.filter(pl.col("scenario") == scenario)
            seeds = runs.filter(pl.col("scenario") == scenario)["seed"].unique().sort().to_list()
            lost += [] if here.height else [f"{scenario} (all seeds)"]
            for (variant,), found in here.group_by("variant", maintain_order=True):
                where = f"{scenario}, {variant}," if variant else scenario
                lost += [f"{where} seed {seed}" for seed in seeds if seed not in set(found["seed"])]
        if lost:
            yield f"{contestant} has no run for {_listed(lost, '; ')}."
    for (scenario,), group in runs.group_by("scenario", maintain_order=True):
        if lost_seeds := sorted(set(runs["seed"]) - set(group["seed"])):
            yield f"{scenario} has no run at all with seed {_listed(map(str, lost_seeds))}."


def _absent_parts(runs: pl.DataFrame, curves: pl.DataFrame) -> Iterator[str]:
    with_curves = set(curves["run"].unique())
    trained = runs.filter(pl.col("kind") != "oracle")
    lost = [run for run in trained["run"] if run not in with_curves]
    if lost and curves.height:
        yield f"{len(lost)} of {trained.height} runs have no curves: {_listed(lost)}."
    if unmeasured := runs.filter(pl.col("hr10").is_null() & pl.col("regret").is_null())["run"].to_list():
        yield f"{len(unmeasured)} runs have no HR@10: {_listed(unmeasured)}."


def _unequal(runs: pl.DataFrame) -> Iterator[str]:
    """Check that all contestants of a stream saw the same examples and targets; else gaps mean nothing."""
    for (scenario, seed), group in runs.group_by("scenario", "seed", maintain_order=True):
        digests = group.drop_nulls("examples_digest")
        counts = digests["examples_digest"].value_counts(sort=True)
        if counts.height > 1:
            usual = counts.sort("count", "examples_digest", descending=[True, False])["examples_digest"][0]
            others = digests.filter(pl.col("examples_digest") != usual)["contestant"].unique(maintain_order=True)
            yield (
                f"In {scenario}, seed {seed}, the digests of the examples differ ({_listed(others)} saw others than "
                "the rest): gaps of this seed are not to be trusted."
            )
        targets = group.filter(pl.col("kind") != "oracle")["targets"].drop_nulls().unique().sort()
        if targets.len() > 1:
            yield f"In {scenario}, seed {seed}, the contestants were tested on {_listed(map(str, targets))} targets."


def _refused(runs: pl.DataFrame) -> Iterator[str]:
    """Name the streams of which the joiner refused events."""
    streams = runs.group_by("scenario", "seed", maintain_order=True).agg(pl.col("dead_letters").max())
    for scenario, seed, count in streams.filter(pl.col("dead_letters") > 0).iter_rows():
        yield f"In {scenario}, seed {seed}, the joiner refused {count:,} events: they are in no example."


def _listed(names: Iterable[str], between: str = ", ") -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return between.join(names[:_SHOWN]) + more
