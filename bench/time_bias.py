"""The effect of a time bias: none, the paper's buckets, a decaying function; and of SiLU by max_len or by keys seen.

python bench/time_bias.py. Prequential HR@10 and NDCG@10 of one Learner for each variant, --seeds seeds, on the first
--limit ratings of MovieLens-small and on two synthetic streams: the paper's (exchangeable within a record, so time has
no information) and one of interests that fade with time (fading.py). Means over the seeds with standard errors;
differences are from the default (silu, bucketed), seed by seed, on the same examples. Speed is CPU time over all steps.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fading import make_fading
from logged import dirichlet, learn, movielens, quality
from report import clock_s, machine, save, table

from model.config import ModelSettings, TrainSettings
from model.learning.learner import Learner
from sim.dirichlet.stream import DirichletSettings
from stream.example import Example

TOKENS = 64
RECORD = 128
VARIANTS = [(attention, bias) for attention in ("silu", "silu_seen") for bias in ("bucketed", "functional", "none")]


def synthetic(seed: int) -> dict[str, tuple[int, list[Example]]]:
    """Return max_len and examples of the streams that are made for each seed."""
    settings = DirichletSettings(seed=seed, records=1_000, length=RECORD, items=2_000, categories=50)
    return {
        "fading": (TOKENS, make_fading(6_000, tokens=TOKENS, seed=seed)),
        "dirichlet": (RECORD, dirichlet(settings)),
    }


def run(examples: Sequence[Example], max_len: int, attention: Any, bias: Any, seed: int) -> dict[str, float]:
    """Return the figures of one learner and its speed."""
    model = ModelSettings(max_len=max_len, attention=attention, bias=bias)
    learner = Learner(model, TrainSettings(seed=seed, device="cpu"))
    start = clock_s()
    learn(learner, examples)
    took_s = clock_s() - start
    return {
        **quality(learner),
        "ms_a_step": 1000 * took_s / learner.counts["steps"],
        "tokens_per_s": learner.counts["tokens"] / took_s,
    }


def mean(numbers: Sequence[float], sign: str = "") -> str:
    """Return mean and standard error."""
    error = statistics.stdev(numbers) / len(numbers) ** 0.5 if len(numbers) > 1 else float("nan")
    return f"{statistics.mean(numbers):{sign}.4f} ± {error:.4f}"


def show(stream: str, runs: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    base, rows = runs[VARIANTS[0]], []
    for (attention, bias), own in runs.items():
        figures = []
        for name in ("hr@10", "ndcg@10"):
            figures.append(mean([each[name] for each in own]))
            figures.append(mean([each[name] - other[name] for each, other in zip(own, base, strict=True)], "+"))
        speed = [statistics.median(each[name] for each in own) for name in ("ms_a_step", "tokens_per_s")]
        rows.append((f"{attention}, {bias}", *figures, *speed))
    print(stream)
    table(("", "HR@10", "difference", "NDCG@10", "difference", "ms/step", "tokens/s"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=20_000, help="ratings of MovieLens")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    ratings = TOKENS, movielens(TOKENS, given.limit)
    runs: dict[str, dict[tuple[str, str], list[dict[str, float]]]] = {}
    for seed in range(given.seeds):
        for stream, (max_len, examples) in ({"movielens": ratings} | synthetic(seed)).items():
            own = runs.setdefault(stream, {variant: [] for variant in VARIANTS})
            run(examples[:80], max_len, *VARIANTS[0], seed)  # compiles the loops
            for variant in VARIANTS:
                own[variant].append(run(examples, max_len, *variant, seed))
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.seeds} seeds, MovieLens to rating {given.limit:,}")
    for stream, own in runs.items():
        show(stream, own)
    figures = {stream: {" ".join(key): each for key, each in own.items()} for stream, own in runs.items()}
    save("time-bias", {"limit": given.limit, "runs": figures}, given.save)


if __name__ == "__main__":
    main()
