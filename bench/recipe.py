"""How well settings recommend in one pass, and what they cost: HR@10 and NDCG@10 of a stream's second half.

    python bench/recipe.py --log movielens --seeds 1 2 3 "" "train.negatives=512 train.replay_every=0"

Each argument is a variant: settings of [model], [train] and [stream] that differ from the defaults ("" for none).
Every target is tested before it is trained on (second_half.py says which of them count); examples have 64 tokens.
--log is a data set (movielens, ml-100k) or a scenario. A seed is that of the stream (of a data set: of the order of
rows of one instant) and of the model. Variants of a seed see the same examples and take turns, a micro-batch each, so
that other work on the machine slows all of them alike. CPU time is that of the learner, tests included, divided by all
its targets. Prints mean ± standard deviation over the seeds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from report import clock_s, machine, save, table
from second_half import SecondHalf

from model.config import ModelSettings, TrainSettings
from model.learning.learner import Learner
from sim.experiment.feeds import Feed, micro_batches
from sim.experiment.streams import open_stream
from sim.sources.datasets import DATASETS

TOKENS = 64


def settings_of(variant: str) -> dict[str, dict[str, Any]]:
    """Return tables of settings from "model.dim=32 train.negatives=2048"; values are JSON, or text."""
    tables: dict[str, dict[str, Any]] = {"model": {}, "train": {}, "stream": {"example_tokens": TOKENS}}
    for word in variant.split():
        dotted, _, text = word.partition("=")
        name, _, key = dotted.partition(".")
        try:
            tables[name][key] = json.loads(text)
        except ValueError:
            tables[name][key] = text
    return tables


class Variant:
    """One learner on a feed."""

    def __init__(self, feed: Feed, tables: dict[str, dict[str, Any]], seed: int) -> None:
        train = TrainSettings(**{"seed": seed, "device": "cpu", "exclude_seen": True, **tables["train"]})
        self._learner = Learner(ModelSettings(**tables["model"]), train, baselines=False)
        self._batches = micro_batches(feed, train.batch_examples)
        self._half, self._cpu_s = SecondHalf(feed.examples), 0.0

    def step(self) -> bool:
        """Test and train on the next micro-batch; return whether there was one."""
        entry = next(self._batches, None)
        if entry is None:
            return False
        records, batch = entry
        self._learner.learn_items(records)
        counted = self._half.counted(self._learner.index.ask(batch), len(batch))
        start_s = clock_s()
        outcome = self._learner.step(batch).outcome
        self._cpu_s += clock_s() - start_s
        assert outcome is not None
        self._half.count(outcome.ranks["hstu"][counted])
        return True

    def figures(self) -> dict[str, float]:
        """Return quality and cost."""
        cost = {"cpu_s": self._cpu_s, "cpu_ms_a_target": 1000 * self._cpu_s / self._learner.metrics.targets}
        return self._half.figures() | cost


def run(given: argparse.Namespace, seed: int) -> dict[str, dict[str, float]]:
    """Return the figures of all variants."""
    limit = {} if given.limit is None else {"limit" if given.log in DATASETS else "events": given.limit}
    variants: dict[str, Variant] = {}
    feeds: dict[str, Feed] = {}
    for name in given.variants:
        tables = settings_of(name)
        joiner = json.dumps(tables["stream"])
        if joiner not in feeds:
            feeds[joiner] = open_stream(given.log, limit, seed, tables["stream"]).feed()
        variants[name] = Variant(feeds[joiner], tables, seed)
    going = list(variants.values())
    while going:
        going = [variant for variant in going if variant.step()]
    return {name: variant.figures() for name, variant in variants.items()}


def cell(runs: Sequence[dict[str, float]], name: str) -> str:
    """Return mean and standard deviation of a figure."""
    values = [run[name] for run in runs]
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=[""], help='settings, as "model.dim=32 train.negatives=2048"')
    parser.add_argument("--log", default="movielens", help="movielens, ml-100k or a scenario")
    parser.add_argument("--limit", type=int, help="rows or events at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in given.variants}
    for seed in given.seeds:
        for variant, figures in run(given, seed).items():
            found[variant].append(figures)
            print(f"seed {seed}: {variant or 'defaults'}: {figures}", flush=True)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.log}, limit {given.limit}, seeds {given.seeds}")
    names = ("hr10", "ndcg10", "cpu_ms_a_target", "cpu_s")
    rows = [(variant or "defaults", *(cell(runs, name) for name in names)) for variant, runs in found.items()]
    table(("", "HR@10", "NDCG@10", "CPU ms a target", "CPU s"), rows)
    save(f"recipe-{given.log}", {"limit": given.limit, "seeds": given.seeds, "runs": found}, given.save)


if __name__ == "__main__":
    main()
