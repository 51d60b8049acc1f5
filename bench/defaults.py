"""Why the learner's defaults are what they are: one setting changed at a time, several seeds, on MovieLens-small.

Each row is `hstu replay --dataset movielens --shuffle-ties 1 --limit 30000 --direct` with the settings it names: every
item is tested over all live items before it is trained on, in one pass. Prints mean and deviation over the seeds.

    python bench/defaults.py [--rows 30000] [--seeds 3]        about 20 s for each row and seed on one core
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from report import save

COMMON = {"HSTU_STREAM__EXAMPLE_TOKENS": "64", "HSTU_MODEL__MAX_LEN": "64"}
VARIANTS = {
    "defaults": {},
    "temperature 0.05": {"HSTU_MODEL__TEMPERATURE": "0.05"},
    "temperature 0.1": {"HSTU_MODEL__TEMPERATURE": "0.1"},
    "learning rate 0.003": {"HSTU_TRAIN__LEARNING_RATE": "0.003"},
    "embeddings as the rest": {"HSTU_TRAIN__EMBEDDING_RATE_RATIO": "1"},
    "no recency means": {"HSTU_MODEL__RECENCY_DECAYS": "[]"},
    "no replay": {"HSTU_TRAIN__REPLAY_EVERY": "0"},
    "batches of 32 examples": {"HSTU_TRAIN__BATCH_EXAMPLES": "32"},
    "512 negatives": {"HSTU_TRAIN__NEGATIVES": "512"},
    "softmax attention": {"HSTU_MODEL__ATTENTION": "softmax"},
    "no bias": {"HSTU_MODEL__BIAS": "none"},
}
FIGURES = ("hr@10", "hr@50", "ndcg@10", "mrr")


def hstu(environment: dict[str, str], *arguments: str) -> str:
    """Return what a verb prints."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HSTU_")}
    command = [sys.executable, "-m", "sim.main", *arguments]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def measure(variant: dict[str, str], seed: int, rows: int) -> dict[str, Any]:
    """Return the totals of all scorers of one run."""
    with tempfile.TemporaryDirectory() as folder:
        environment = COMMON | variant | {"HSTU_DATA_DIR": str(Path(folder) / "run"), "HSTU_TRAIN__SEED": str(seed)}
        log = ("--dataset", "movielens", "--shuffle-ties", "1", "--limit", str(rows))
        hstu(environment, "replay", *log, "--direct", "--name", "silu")
        shown = json.loads(hstu(environment, "snapshots", "show", "--json"))
    return {scorer: scopes["total"]["all"] for scorer, scopes in shown["metrics"]["retrieval"].items()}


def line(name: str, runs: list[dict[str, Any]]) -> str:
    """Return a row of the table."""
    columns = [[run[figure] or 0.0 for run in runs] for figure in FIGURES]
    cells = [f"{statistics.mean(c):.4f} ± {statistics.stdev(c) if len(c) > 1 else 0:.4f}" for c in columns]
    return "| ".join((f"| {name:24s} ", *(f"{cell} " for cell in cells))) + "|"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=30_000)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = options.parse_args()
    print(
        f"MovieLens-small, the first {given.rows:,} ratings, {given.seeds} seeds, one pass; mean ± standard deviation"
    )
    print("| |" + "|".join(f" {figure.upper()} " for figure in FIGURES) + "|\n|---|---|---|---|---|")
    measured = {}
    for name, variant in VARIANTS.items():
        measured[name] = [measure(variant, seed, given.rows) for seed in range(given.seeds)]
        print(line(name, [run["hstu"] for run in measured[name]]), flush=True)
    for baseline in ("popularity", "last_items"):
        print(line(baseline.replace("_", " "), [run[baseline] for run in measured["defaults"]]))
    save("defaults", {"rows": given.rows, "runs": measured}, given.save)


if __name__ == "__main__":
    main()
