"""Reads the output folder of a comparison: frames with fixed columns, and what is missing.

A run is identified by (scenario, contestant, variant, seed). Runs that were scored at different times (`score_at`), or
with and without the user's own items as candidates (`exclude_seen`), answer different questions: each group becomes a
scenario of its own. NaN is read as null: not measured.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from model.evaluation import metrics
from sim.errors import SimError
from sim.report.analysis.completeness import missing_parts

METRIC_TITLES: Final = {metric.column: metric.title for metric in metrics.METRICS}
METRICS: Final = tuple(METRIC_TITLES)
BRIEF: Final = tuple(metric.column for metric in metrics.METRICS if metric.brief)
PROTOCOLS: Final = {  # to be read through Results.in_words
    "all": "the whole stream, each target tested before it is learned",
    "late": "the last {late} of the stream, each target tested before it is learned",
    "frozen": "the last {late} of the stream, tested with weights frozen at {before}",
}
PREFIXES: Final = {"all": "", "late": "late_", "frozen": "frozen_"}
KEY: Final = ("scenario", "contestant", "variant", "seed")
_TEXTS = ("run", "scenario", "scenario_title", "contestant", "title", "kind", "variant", "settings", "score_at")
_COUNTS = (
    "examples",
    "tokens",
    "steps",
    "targets",
    "parameters",
    "late_targets",
    "frozen_targets",
    "dead_letters",
    "items",
)
_FIGURES = tuple(prefix + metric for prefix in PREFIXES.values() for metric in METRICS)
_OTHERS = ("train_s", "test_s", "tokens_per_s", "log_loss", "regret", "late_regret", "stderr_hr10", "late_share")
RUNS: Final[dict[str, pl.DataType]] = {
    **dict.fromkeys((*_TEXTS, "examples_digest", "model_digest"), pl.String()),
    "seed": pl.Int64(),
    "exclude_seen": pl.Boolean(),
    **dict.fromkeys(_COUNTS, pl.Int64()),
    **dict.fromkeys((*_FIGURES, *_OTHERS), pl.Float64()),
}
CURVES: Final[dict[str, pl.DataType]] = {
    "run": pl.String(),
    "bucket": pl.Int64(),
    "time_ms": pl.Float64(),
    "age": pl.String(),
    **dict.fromkeys(("targets", *METRICS, "regret"), pl.Float64()),
}
CLICKS: Final[dict[str, pl.DataType]] = {
    **dict.fromkeys(("run", "part", "action", "age"), pl.String()),
    **dict.fromkeys(("targets", "positives", "log_loss", "ne", "calibration", "auc", "gauc"), pl.Float64()),
}
MOMENTS: Final[dict[str, pl.DataType]] = {
    "scenario": pl.String(),
    "seed": pl.Int64(),
    "name": pl.String(),
    "share": pl.Float64(),
    "until_share": pl.Float64(),
}
_NEEDED = ("run", "scenario", "contestant", "seed", "hr10")


@dataclass(frozen=True)
class Results:
    """One comparison: its frames, about.json, and sentences on what is missing."""

    runs: pl.DataFrame
    curves: pl.DataFrame
    moments: pl.DataFrame
    about: dict[str, Any]
    missing: tuple[str, ...]
    clicks: pl.DataFrame

    @property
    def scenarios(self) -> list[str]:
        """The scenarios in their order in runs.parquet."""
        return self.runs["scenario"].unique(maintain_order=True).to_list()

    @property
    def against(self) -> str:
        """The contestant that gaps are measured from: softmax if it ran, else the stack of all counters."""
        return "stack" if {"softmax", "stack"} & set(self.runs["contestant"]) == {"stack"} else "softmax"

    @property
    def hstu(self) -> str:
        """The contestant that stands for the model: `hstu` as it is configured if it ran, else with attention silu."""
        return "hstu" if "hstu" in set(self.runs["contestant"]) else "silu"

    def in_words(self, text: str) -> str:
        """Return a text with its {late}, the share of a stream that is counted as late, and {before} in per cent."""
        shares = sorted({share for share in self.runs["late_share"].to_list() if share is not None}) or [0.1]
        late, before = (" or ".join(f"{100 * abs(less - share):.0f} %" for share in shares) for less in (0, 1))
        return text.format(late=late, before=before)

    def scenario_title(self, scenario: str) -> str:
        """Return a scenario's title."""
        return str(self.runs.filter(pl.col("scenario") == scenario)["scenario_title"][0])

    def title(self, contestant: str, scenario: str | None = None) -> str:
        """Return a contestant's title, in general or in one scenario (upper bounds differ between scenarios)."""
        runs = self.runs.filter(pl.col("contestant") == contestant)
        here = runs.filter(pl.col("scenario") == (scenario or ""))
        return str((runs if here.is_empty() else here)["title"][0])

    def label(self, contestant: str, scenario: str) -> str:
        """Return a contestant's name in plots; for an upper bound the first word of its title."""
        oracles = self.runs.filter(pl.col("kind") == "oracle")["contestant"].unique().to_list()
        return first_word(self.title(contestant, scenario)) if contestant in oracles else contestant

    def upper_bounds(self, scenario: str | None = None) -> list[str]:
        """Return the names of the upper bounds of one scenario or of all: oracle, seer."""
        runs = self.runs.filter(pl.col("kind") == "oracle")
        runs = runs if scenario is None else runs.filter(pl.col("scenario") == scenario)
        return list(dict.fromkeys(first_word(title) for title in runs["title"]))


def first_word(title: str) -> str:
    """Return "oracle" for "Oracle: exact posterior"."""
    return title.split(":")[0].strip().lower()


def read_results(folder: Path) -> Results:
    """Read a folder that `hstu compare` has written or is still writing.

    Raises:
        SimError: There is no readable runs.parquet, or it lacks a necessary column.
    """
    path = folder / "runs.parquet"
    if not path.is_file():
        raise SimError(
            f"{folder} holds no runs.parquet: give the output folder of `hstu compare` once a run has ended."
        )
    frame = _read(path)
    if lacking := [name for name in _NEEDED if name not in frame.columns]:
        raise SimError(f"{path} lacks the columns {', '.join(lacking)}: was it written by `hstu compare`?")
    raw = _shaped(frame, RUNS)
    runs = _identified(raw)
    absent: list[str] = []
    curves = _optional(folder / "curves.parquet", CURVES, absent, "no curves over the stream, by item age or recovery")
    moments = _optional(folder / "moments.parquet", MOMENTS, absent, "no moments are marked")
    path = folder / "clicks.parquet"  # older folders have none
    clicks = _shaped(_read(path), CLICKS) if path.is_file() else pl.DataFrame(schema=CLICKS)
    about = _about(folder / "about.json", absent)
    moments = _moments_of(runs, moments)
    missing = *absent, *missing_parts(raw.height, runs, curves, about)
    return Results(runs.drop("world"), curves, moments, about, missing, clicks)


def _identified(raw: pl.DataFrame) -> pl.DataFrame:
    """Fill nulls, split scenarios by `score_at` and `exclude_seen`, and keep the last run of each identity."""
    runs = raw.with_columns(
        pl.col("scenario_title").fill_null(pl.col("scenario")),
        pl.col("title").fill_null(pl.col("contestant")),
        pl.col("kind").fill_null("neural"),
        pl.col("variant").fill_null(""),
        pl.col("exclude_seen").fill_null(False),
        pl.col("scenario").alias("world"),
    )
    scored = runs.filter(pl.col("kind") != "oracle")["score_at"].drop_nulls().unique(maintain_order=True)
    if scored.len() > 1:  # an upper bound belongs to both
        others = [pl.col("kind") != "oracle", pl.col("kind") == "oracle"]
        split = [runs.filter(others[0])] + [runs.filter(others[1]).with_columns(score_at=pl.lit(at)) for at in scored]
        named = [
            pl.coalesce(pl.format("{}, scored at {}", name, "score_at"), name).alias(
                name
            )  # a closed loop scores nothing
            for name in ("scenario", "scenario_title")
        ]
        runs = pl.concat(split).with_columns(named)
    if runs["exclude_seen"].n_unique() > 1:
        left_out = pl.when("exclude_seen").then(pl.lit(", seen items left out")).otherwise(pl.lit(""))
        runs = runs.with_columns((pl.col(name) + left_out).alias(name) for name in ("scenario", "scenario_title"))
    titles = runs.group_by("scenario_title").agg(pl.col("scenario").n_unique())
    if (titles["scenario"] > 1).any():  # titles must differ
        runs = runs.with_columns(pl.format("{} ({})", "scenario_title", "scenario").alias("scenario_title"))
    return runs.unique(KEY, keep="last", maintain_order=True)


def _moments_of(runs: pl.DataFrame, moments: pl.DataFrame) -> pl.DataFrame:
    """Return the moments under the names that scenarios have in this report."""
    worlds = runs.select("world", "scenario").unique(maintain_order=True)
    joined = worlds.join(moments.rename({"scenario": "world"}), on="world", maintain_order="left_right")
    return joined.drop("world").drop_nulls("share").sort("share", maintain_order=True)


def _optional(path: Path, schema: dict[str, pl.DataType], absent: list[str], consequence: str) -> pl.DataFrame:
    if path.is_file():
        return _shaped(_read(path), schema)
    absent.append(f"{path.name} is not there: {consequence}.")
    return pl.DataFrame(schema=schema)


def _about(path: Path, absent: list[str]) -> dict[str, Any]:
    if not path.is_file():
        absent.append(f"{path.name} is not there: nothing tells the command, the machine and the versions.")
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SimError(f"{path} is no JSON ({error}); write it again with `hstu compare`.") from error
    return about if isinstance(about, dict) else {"about": about}


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SimError(f"{path} is no readable Parquet file ({error}); write it again with `hstu compare`.") from error


def _shaped(frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return exactly these columns, absent ones as nulls, NaN as null."""
    columns = [
        pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in schema.items()
    ]
    return frame.select(columns).with_columns(pl.col(pl.Float64).fill_nan(None))
