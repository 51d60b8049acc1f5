"""Output folders of a comparison, written by hand with known figures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sim.report.analysis.results import Results, read_results

ABOUT: Mapping[str, Any] = {
    "command": "hstu compare --preset tiny",
    "preset": "tiny",
    "machine": {"cpu": "a CPU", "cores": 2},
    "versions": {"torch": "2.13.0"},
    "started": "2026-01-01T00:00:00Z",
    "finished": "2026-01-01T00:10:00Z",
}
TITLES = {"silu": "HSTU, SiLU", "softmax": "HSTU, softmax", "markov": "Markov chain", "oracle": "Oracle"}
KINDS = {"markov": "baseline", "oracle": "oracle"}


def run(
    scenario: str, contestant: str, seed: int, hr10: float | None, variant: str = "", **more: Any
) -> dict[str, Any]:
    """Return a row of runs.parquet; the other metrics follow from HR@10, and nothing was frozen."""
    times = {"hr50": 2.0, "ndcg10": 0.5, "mrr": 0.4}
    metrics = {"hr10": hr10} | {name: None if hr10 is None else factor * hr10 for name, factor in times.items()}
    return {
        "run": f"{scenario}-{contestant}-{variant}-{seed}",
        "scenario": scenario,
        "scenario_title": f"Scenario {scenario}",
        "contestant": contestant,
        "title": TITLES.get(contestant, contestant),
        "kind": KINDS.get(contestant, "neural"),
        "variant": variant,
        "seed": seed,
        "settings": json.dumps({"train": {"learning_rate": float(variant.split("=")[1])}} if "=" in variant else {}),
        "score_at": "label",
        "examples_digest": f"{scenario}{seed}",
        "targets": 1000,
        "parameters": 5000,
        "train_s": 10.0,
        "test_s": 2.0,
        "tokens_per_s": 100.0,
        **metrics,
        **{f"late_{name}": value for name, value in metrics.items()},
        "late_targets": 100,
        **more,
    }


def curve(
    run_id: str, rates: Sequence[float], targets: int = 100, age: str = "old", step_ms: int = 1000
) -> pl.DataFrame:
    """Return curves of one run: an HR@10 for each hundredth of `step_ms`, with its targets in the middle."""
    return pl.DataFrame(
        {
            "run": [run_id] * len(rates),
            "bucket": range(len(rates)),
            "time_ms": [step_ms * bucket + step_ms // 2 for bucket in range(len(rates))],
            "age": [age] * len(rates),
            "targets": [targets] * len(rates),
            **{name: [rate * targets for rate in rates] for name in ("hr10", "hr50", "ndcg10", "mrr")},
        }
    )


def moment(scenario: str, seed: int | None, share: float, name: str = "shock") -> dict[str, Any]:
    """Return a row of moments.parquet."""
    return {"scenario": scenario, "seed": seed, "name": name, "share": share, "until_share": None}


def write(
    folder: Path,
    runs: Sequence[Mapping[str, Any]],
    curves: Sequence[pl.DataFrame] | None = None,
    moments: Sequence[Mapping[str, Any]] | None = None,
    about: Mapping[str, Any] | None = ABOUT,
) -> Path:
    """Write the folder; a part that is None is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(runs, infer_schema_length=None).write_parquet(folder / "runs.parquet")
    if curves is not None:
        pl.concat(curves).write_parquet(folder / "curves.parquet")
    if moments is not None:
        pl.DataFrame(moments).write_parquet(folder / "moments.parquet")
    if about is not None:
        (folder / "about.json").write_text(json.dumps(about))
    return folder


def one(tmp_path: Path, *curves: pl.DataFrame, moments: list[dict[str, object]] | None = None) -> Results:
    """Read a folder with silu alone: a seed for each of the curves, whose run ids are a-silu--0, a-silu--1, ..."""
    runs = [run("a", "silu", seed, 0.1) for seed in range(len({curve["run"][0] for curve in curves}))]
    return read_results(write(tmp_path, runs, list(curves), moments))


def shocked(down: int, level: float = 0.1, *, at: int = 60) -> list[float]:
    """Return an HR@10 of 0.2 that falls to `level` for `down` hundredths from `at` on."""
    return [0.2] * at + [level] * down + [0.2] * (100 - at - down)


def runs_of(
    scenarios: str, seeds: int, contestants: tuple[str, ...] = ("silu", "softmax", "markov")
) -> Iterator[dict[str, object]]:
    for scenario in scenarios:
        for place, contestant in enumerate(contestants):
            for seed in range(seeds):
                yield run(scenario, contestant, seed, 0.3 - 0.05 * place + 0.001 * seed * (1 + place))


def pair(scenario: str = "a", seeds: int = 2) -> list[dict[str, object]]:
    """Return runs of silu and softmax, as good as each other."""
    return [run(scenario, name, seed, 0.1) for name in ("silu", "softmax") for seed in range(seeds)]
