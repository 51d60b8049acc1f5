"""What new items gain: features of the catalogue in their vectors, first values, and rates, by the item's age.

    python bench/cold_start.py turnover growth --limit 6000 --seeds 1 2 3
    python bench/cold_start.py movielens --limit 20000 --seeds 1 2 3
    python bench/cold_start.py turnover --limit 2500 --seeds 1 2 3 --variants all

By default two variants: without and with features (model.item_features). With --variants all each of them has rows that
begin at chance, half at what they are seen with, or half at their like in the catalogue; and at the usual rate or at
three times as much (first_values.py). All else is at its default, and every variant passes the same stream once.

HR@10 of the second half, and over the whole stream by age of the item at the request, of the model (`hstu`) and of its
encoder alone; items that the user has acted on are no candidates. A seed is that of the stream (of a data set: of the
order of rows of one instant) and of the model. Mean ± standard deviation over the seeds; by age, all seeds' targets
together.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from first_values import ColdStartLearner, First
from numpy.typing import NDArray
from report import machine, save, table
from second_half import SecondHalf

from model.config import ModelSettings, TrainSettings
from model.data.item_age import SLICES
from model.evaluation.prequential import ENCODER, MODEL
from sim.experiment.feeds import Feed, micro_batches
from sim.experiment.streams import open_stream
from sim.sources.datasets import DATASETS


class Variant(NamedTuple):
    """How a new item begins."""

    features: tuple[str, ...]  # model.item_features
    first: First = "chance"
    rate: float = 1.0  # of a row's first step


VARIANTS = {"none": Variant(()), "features": Variant(("*",))}
ALL = {
    f"{'features, ' if features else ''}{first}{', rate 3' if rate > 1 else ''}": Variant(features, first, rate)
    for features, first, rate in itertools.product(((), ("*",)), get_args(First), (1.0, 3.0))
}
NAMES = (MODEL, ENCODER)
Found = tuple[dict[str, float], dict[str, NDArray[np.float64]]]  # HR@10 of the second half; targets and hits by age


def one_pass(feed: Feed, seed: int, tokens: int, variant: Variant) -> Found:
    """Test and learn a stream once."""
    train = TrainSettings(seed=seed, device="cpu", exclude_seen=True)
    model = ModelSettings(max_len=tokens, item_features=variant.features)
    learner = ColdStartLearner(model, train, variant.first, variant.rate)
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


def by_age(found: dict[str, list[Found]]) -> dict[str, list[float]]:
    """Return the number of targets of each age, and of each variant, by model and encoder, HR@10 of each age."""
    targets, shares = np.zeros(len(SLICES)), {}
    for (name, runs), who in itertools.product(found.items(), NAMES):
        targets, hits = sum(ages[who] for _, ages in runs).T  # type: ignore[union-attr]
        shares[f"{name}: {who}"] = (hits / np.maximum(targets, 1)).tolist()
    return {"targets": targets.tolist()} | shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="+", help="data sets or scenarios")
    parser.add_argument("--limit", type=int, help="rows or events at most")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an example at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--variants", choices=["features", "all"], default="features", help="what is compared")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    variants = ALL if given.variants == "all" else VARIANTS
    figures: dict[str, Any] = {}
    for name in given.streams:
        found: dict[str, list[Found]] = {name: [] for name in variants}
        for seed in given.seeds:
            size = {} if given.limit is None else {"limit" if name in DATASETS else "events": given.limit}
            feed = open_stream(name, size, seed, {"example_tokens": given.tokens}).feed()
            for title, variant in variants.items():
                start = time.process_time()
                found[title].append(one_pass(feed, seed, given.tokens, variant))
                half = found[title][-1][0]
                print(
                    f"{name}, seed {seed}, {title}:",
                    *(f"{who} {half[who]:.4f}" for who in NAMES),
                    f"({time.process_time() - start:.0f} s)",
                    flush=True,
                )
        print(f"{machine()}; {time.strftime('%Y-%m-%d')}; limit {given.limit}, {given.tokens} tokens")
        table(
            ("HR@10 of the second half", *NAMES),
            [(v, *(cell([half[who] for half, _ in runs]) for who in NAMES)) for v, runs in found.items()],
        )
        ages = by_age(found)
        table(("HR@10 by age of the item", *SLICES), [(title, *shares) for title, shares in ages.items()])
        halves = {v: {who: [half[who] for half, _ in runs] for who in NAMES} for v, runs in found.items()}
        figures[name] = {"second half": halves, "by age": ages}
    save("cold-start", {"limit": given.limit, "tokens": given.tokens, "hr10": figures}, given.save)


if __name__ == "__main__":
    main()
