"""How well settings recommend in one pass, and what they cost: HR@10 and NDCG@10 of a stream's second half.

    python bench/recipe.py --log movielens --seeds 1 2 3 "" "train.negatives=512 train.replay_steps=0"

Each argument is a variant: settings of [model], [train] and [stream] that differ from the defaults ("" for none).
Every target is tested before it is trained on (second_half.py says which of them count); examples have 64 tokens.
--log is a data set (movielens, ml-100k) or a scenario. A seed is that of the stream (of a data set: of the order of
rows of one instant) and of the model. Variants of a seed see the same examples. CPU time is that of the learner, tests
included, divided by all its targets. Prints mean ± standard deviation over the seeds.
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


def run(feed: Feed, tables: dict[str, dict[str, Any]], seed: int) -> dict[str, float]:
    """Return the figures of one learner on a feed."""
    train = TrainSettings(**{"seed": seed, "device": "cpu", "exclude_seen": True, **tables["train"]})
    learner = Learner(ModelSettings(**tables["model"]), train, baselines=False)
    half, start_s = SecondHalf(feed.examples), clock_s()
    for records, batch in micro_batches(feed, train.batch_examples):
        learner.learn_items(records)
        counted = half.counted(learner.index.ask(batch), len(batch))
        outcome = learner.step(batch).outcome
        assert outcome is not None
        half.count(outcome.ranks["hstu"][counted])
    took_s = clock_s() - start_s
    return half.figures() | {"cpu_s": took_s, "cpu_ms_a_target": 1000 * took_s / learner.metrics.targets}


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
    limit = {} if given.limit is None else {_limit_key(given.log): given.limit}
    for seed in given.seeds:
        feeds: dict[str, Feed] = {}
        for variant, runs in found.items():
            tables = settings_of(variant)
            joiner = json.dumps(tables["stream"])
            if joiner not in feeds:
                feeds = {joiner: open_stream(given.log, limit, seed, tables["stream"]).feed()}
            runs.append(run(feeds[joiner], tables, seed))
            print(f"seed {seed}: {variant or 'defaults'}: {runs[-1]}", flush=True)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.log}, limit {given.limit}, seeds {given.seeds}")
    figures = ("hr10", "ndcg10", "cpu_ms_a_target", "cpu_s")
    rows = [(variant or "defaults", *(cell(runs, name) for name in figures)) for variant, runs in found.items()]
    table(("", "HR@10", "NDCG@10", "CPU ms a target", "CPU s"), rows)
    save(f"recipe-{given.log}", {"limit": given.limit, "seeds": given.seeds, "runs": found}, given.save)


def _limit_key(log: str) -> str:
    from sim.sources.datasets import DATASETS

    return "limit" if log in DATASETS else "events"


if __name__ == "__main__":
    main()
