"""Ranking many candidates after one history: one pass beside a pass for each candidate.

python bench/rank.py. Scorer.rank of 1 to 2,000 candidates at histories of 512 and 4,096 tokens, against calls with one
candidate each. Of more than --passes candidates only that many are ranked singly and the rest is extrapolated in
proportion, marked by ~ in the table. Both give the same numbers: the largest difference is printed.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import machine, save, seconds, spread, table
from served import NOW_MS, make_history, make_scorer

from model.config import ModelSettings
from model.serving.scorer import Scorer
from model.user_states.history import History

ITEMS = 20_000


def difference(scorer: Scorer, history: History, rows: np.ndarray) -> float:
    """Return the largest difference between one pass and single ones, over probabilities and retrieval scores."""
    together = scorer.rank(history, rows, NOW_MS)
    worst = 0.0
    for i, row in enumerate(rows):
        alone = scorer.rank(history, np.array([row]), NOW_MS)
        worst = max(worst, float(np.abs(alone.probabilities[0] - together.probabilities[i]).max()))
        worst = max(worst, float(abs(alone.retrieval[0] - together.retrieval[i])))
    return worst


def measure(scorer: Scorer, history: History, count: int, repeats: int, passes: int) -> dict[str, Any]:
    """Return the ms of both ways for `count` candidates."""
    rows = np.random.default_rng(count).choice(ITEMS, count, replace=False)
    few = rows[:passes]

    def singly() -> None:
        for row in few:
            scorer.rank(history, np.array([row]), NOW_MS)

    one_pass = [1000 * s for s in seconds(lambda: scorer.rank(history, rows, NOW_MS), repeats)]
    single = [1000 * s * count / len(few) for s in seconds(singly, repeats, warm=0)]
    return {
        "history": len(history),
        "candidates": count,
        "one_pass_ms": spread(one_pass),
        "single_ms": spread(single),
        "single_extrapolated": len(few) < count,
        "faster": statistics.median(single) / statistics.median(one_pass),
        "difference": difference(scorer, history, few),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--passes", type=int, default=16, help="single passes measured at most")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for length in (512, 4096):
        scorer, history = make_scorer(ModelSettings(max_len=length + 1), ITEMS), make_history(length, ITEMS)
        rows += [measure(scorer, history, count, given.repeats, given.passes) for count in (1, 16, 64, 500, 2000)]
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; default model, max_len = history + 1")
    table(
        ("history", "candidates", "one pass: ms min", "median", "max", "single passes: ms", "faster", "difference"),
        [
            (
                str(row["history"]),
                row["candidates"],
                *row["one_pass_ms"].values(),
                f"{'~' if row['single_extrapolated'] else ''}{row['single_ms']['median']:,.0f}",
                row["faster"],
                row["difference"],
            )
            for row in rows
        ],
    )
    save("rank", {"rows": rows, "passes": given.passes}, given.save)


if __name__ == "__main__":
    main()
