"""What new items gain: features of the catalogue in their vectors, first values, and rates, by the item's age.

    python bench/cold_start.py turnover growth --limit 6000 --seeds 1 2 3
    python bench/cold_start.py movielens --limit 20000 --seeds 1 2 3

Every variant passes the same stream once, by its settings, all others at their defaults. HR@10 of the second half, and
over the whole stream by age of the item at the request, of the model (`hstu`) and of its encoder alone; items that the
user has acted on are no candidates. A seed is that of the stream (of a data set: of the order of rows of one instant)
and of the model. Mean ± standard deviation over the seeds; by age, all seeds' targets together.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from report import machine, save, table
from second_half import SecondHalf

from model.config import ModelSettings, TrainSettings
from model.data.item_age import SLICES
from model.evaluation.prequential import ENCODER, MODEL
from model.learning.learner import Learner
from sim.experiment.feeds import Feed, micro_batches
from sim.experiment.streams import open_stream
from sim.sources.datasets import DATASETS

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "none": {"model": {"item_features": ()}},
    "features": {"model": {"item_features": ("*",)}},
}
NAMES = (MODEL, ENCODER)
Found = tuple[dict[str, float], dict[str, NDArray[np.float64]]]  # HR@10 of the second half; targets and hits by age


def one_pass(feed: Feed, seed: int, tokens: int, settings: dict[str, dict[str, Any]]) -> Found:
    """Test and learn a stream once."""
    train = TrainSettings(seed=seed, device="cpu", exclude_seen=True, **settings.get("train", {}))
    learner = Learner(ModelSettings(max_len=tokens, **settings.get("model", {})), train, baselines=False)
    half = {who: SecondHalf(feed.examples) for who in NAMES}
    ages = {who: np.zeros((len(SLICES), 2)) for who in NAMES}
    for records, batch in micro_batches(feed, train.batch_examples):
        learner.learn_items(records)
        counted = {who: half[who].counted(learner.index.ask(batch), len(batch)) for who in NAMES}
        outcome = learner.step(batch).outcome
        assert outcome is not None
        for who in NAMES:
            ranks = outcome.ranks[who]
            half[who].count(ranks[counted[who]])
            np.add.at(ages[who], outcome.slices, np.stack((np.ones(len(ranks)), ranks <= 10), 1))
    return {who: half[who].figures()["hr10"] for who in NAMES}, ages


def cell(values: list[float]) -> str:
    """Return mean and standard deviation."""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0:.4f}"


def by_age(found: dict[str, list[Found]]) -> list[tuple[object, ...]]:
    """Return a row for each age that has targets: their number, and every variant's HR@10, model and encoder."""
    rows = []
    for place, age in enumerate(SLICES):
        sums = [sum(ages[who][place] for _, ages in runs) for runs in found.values() for who in NAMES]
        if targets := int(sums[0][0]):
            rows.append((age, targets, *(f"{hits / targets:.4f}" for _, hits in sums)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="+", help="data sets or scenarios")
    parser.add_argument("--limit", type=int, help="rows or events at most")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an example at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    for name in given.streams:
        found: dict[str, list[Found]] = {variant: [] for variant in given.variants}
        for seed in given.seeds:
            size = {} if given.limit is None else {"limit" if name in DATASETS else "events": given.limit}
            feed = open_stream(name, size, seed, {"example_tokens": given.tokens}).feed()
            for variant in given.variants:
                start = time.process_time()
                found[variant].append(one_pass(feed, seed, given.tokens, VARIANTS[variant]))
                half = found[variant][-1][0]
                print(
                    f"{name}, seed {seed}, {variant}:",
                    *(f"{who} {half[who]:.4f}" for who in NAMES),
                    f"({time.process_time() - start:.0f} s)",
                    flush=True,
                )
        print(f"{machine()}; {time.strftime('%Y-%m-%d')}; limit {given.limit}, {given.tokens} tokens")
        table(
            ("HR@10 of the second half", *NAMES),
            [(v, *(cell([half[who] for half, _ in runs]) for who in NAMES)) for v, runs in found.items()],
        )
        table(("age", "targets", *(f"{v} {who}" for v, who in itertools.product(found, NAMES))), by_age(found))
        figures[name] = {v: {who: [half[who] for half, _ in runs] for who in NAMES} for v, runs in found.items()}
    save("cold-start", {"limit": given.limit, "tokens": given.tokens, "hr10": figures}, given.save)


if __name__ == "__main__":
    main()
