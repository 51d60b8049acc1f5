"""Stochastic Length on MovieLens: how many tokens it drops, what it costs in quality, what it saves in time.

python bench/stochastic_length.py. The first --limit ratings of MovieLens-small, examples of up to --tokens tokens (N);
one learner with alpha off, one for each given alpha, and one for the plain alternative: only the last N^(alpha/2)
tokens, with the least alpha, in test and in training. Other settings are the defaults, one seed. Errors are of
differences from `off`, target by target (paired), over all targets and over those with at least LONG tokens before
them. Then the speed alone, in turns, at sequences of exactly 4,096 tokens (movies.py; they have no pattern to learn).
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from logged import movielens, quality
from movies import make_movies
from numpy.typing import NDArray
from report import clock_s, machine, save, spread, table

from model.config import ModelSettings, TrainSettings
from model.data.stochastic_length import kept_tokens
from model.evaluation.prequential import MODEL
from model.learning import learner as learner_module
from model.learning.learner import Learner
from stream.example import Example

LONG = 512


def last_tokens(example: Example, count: int) -> Example:
    """Return the example with its last `count` tokens, or unchanged if a target or its query lies before them."""
    start = max(0, len(example.keys) - count)
    if not start or min(example.positions.min(), example.queries.min()) < start:
        return example
    columns = {name: getattr(example, name)[start:] for name in ("keys", "actions", "ts_ms", "kinds")}
    places = {"positions": example.positions - np.int32(start), "queries": example.queries - np.int32(start)}
    return replace(example, first=example.first + start, **columns, **places)


def run(examples: list[Example], alpha: float, max_len: int) -> dict[str, Any]:
    """Train one learner; return its figures, its ranks, and how many tokens and pairs of tokens it trained on."""
    learner = Learner(ModelSettings(max_len=max_len), TrainSettings(stochastic_length_alpha=alpha, device="cpu"))
    tokens, pairs, ranks = 0.0, 0.0, []

    def counted(batch: Any, *arguments: Any) -> Any:
        nonlocal tokens, pairs
        kept_L = kept_tokens(batch, *arguments)
        lengths = np.add.reduceat(kept_L, batch.offsets[:-1], dtype=float)
        tokens, pairs = tokens + lengths.sum(), pairs + (lengths**2).sum()
        return kept_L

    learner_module.kept_tokens = counted
    start, size = clock_s(), learner.train.batch_examples
    for first in range(0, len(examples), size):
        ranks.append(learner.step(examples[first : first + size]).outcome.ranks[MODEL])
    took_s = clock_s() - start
    if not alpha:
        lengths = np.array([len(example.keys) for example in examples], float)
        tokens, pairs = lengths.sum(), (lengths**2).sum()
    return {
        **quality(learner),
        "ms_a_step": 1000 * took_s / learner.counts["steps"],
        "tokens": float(tokens),
        "pairs": float(pairs),
        "ranks": np.concatenate(ranks),
    }


def hits(result: dict[str, Any], base: dict[str, Any], these: NDArray[np.bool_]) -> tuple[float | str, str]:
    """Return HR@10 over some targets and its difference from `base`, with the standard error of the difference."""
    if not these.any():
        return "", ""
    hit, of_base = ((each["ranks"][these] <= 10).astype(float) for each in (result, base))
    difference = hit - of_base
    return float(hit.mean()), f"{difference.mean():+.4f} ± {difference.std() / len(difference) ** 0.5:.4f}"


def long_examples(count: int, tokens: int, targets: int = 8) -> list[Example]:
    """Return examples of `tokens` tokens, the last of which are targets."""
    return [
        replace(
            example,
            **{name: getattr(example, name)[-targets:] for name in ("positions", "queries", "requests", "request_ms")},
            labels=example.labels[-targets:],
            label_offsets=np.arange(targets + 1, dtype=np.uint32),
        )
        for example in make_movies(count, burst=tokens, tokens=tokens)
    ]


def speeds(alphas: list[float], tokens: int = 4096, steps: int = 4) -> dict[float, list[float]]:
    """Return the ms of some steps for each alpha, taken in turns, after a first step that does not count."""
    examples = long_examples(8 * (steps + 1), tokens)
    learners = {
        alpha: Learner(ModelSettings(max_len=tokens), TrainSettings(stochastic_length_alpha=alpha, device="cpu"))
        for alpha in (0.0, *alphas)
    }
    ms: dict[float, list[float]] = {alpha: [] for alpha in learners}
    for step in range(steps + 1):
        for alpha, learner in learners.items():
            start = clock_s()
            learner.step(examples[8 * step : 8 * step + 8])
            ms[alpha] += [1000 * (clock_s() - start)] if step else []
    return ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="ratings; without it all 100,004")
    parser.add_argument("--tokens", type=int, default=2048, help="of an example at most, N")
    parser.add_argument("--alphas", type=float, nargs="+", default=[1.9, 1.8, 1.7, 1.6])
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    examples, least = movielens(given.tokens, given.limit), int(given.tokens ** (min(given.alphas) / 2))
    run(examples[:80], 0.0, given.tokens)  # compiles the loops
    results = {"off": run(examples, 0.0, given.tokens)}
    for alpha in given.alphas:
        results[f"alpha {alpha}"] = run(examples, alpha, given.tokens)
    results[f"last {least} only"] = run([last_tokens(example, least) for example in examples], 0.0, given.tokens)
    long_P = np.concatenate([example.positions for example in examples]) >= LONG
    everything_P, base = np.ones_like(long_P), results["off"]
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}")
    print(f"{len(examples):,} examples, {len(long_P):,} targets, {long_P.sum():,} of them behind {LONG} tokens")
    rows = []
    for name, result in results.items():
        kept = (f"{result[name] / base[name]:.0%}" for name in ("tokens", "pairs"))
        figures = *hits(result, base, everything_P), result["ndcg@10"], result["mrr"], *hits(result, base, long_P)
        result["hr@10_long"] = figures[-2]
        rows.append((name, *kept, result["ms_a_step"], *figures))
    heads = ("", "tokens", "pairs", "ms/step", "HR@10", "difference", "NDCG@10", "MRR", f"behind {LONG}", "difference")
    table(heads, rows)
    ms = speeds(given.alphas)
    print("\n8 sequences of 4,096 tokens a step")
    table(
        ("", "ms/step min", "median", "max", "of off"),
        [
            (f"alpha {alpha}" if alpha else "off", *spread(own).values(), median(own) / median(ms[0.0]))
            for alpha, own in ms.items()
        ],
    )
    kept = {name: {key: value for key, value in each.items() if key != "ranks"} for name, each in results.items()}
    settings = {"limit": given.limit, "tokens": given.tokens}
    save("stochastic-length", {**settings, "results": kept, "ms_at_4096": ms}, given.save)


if __name__ == "__main__":
    main()
