"""Who recommends best on which stream: the model, its parts and every counter, on the same targets of one pass.

    python bench/quality.py movielens ml-100k --seeds 1 2 3
    python bench/quality.py growth turnover shock rotation season delayed bots position --limit 10000 --seeds 1 2 3

HR@10 of the second half, items that the user has acted on left out (second_half.py says which targets count); with
--repeats they are candidates, and every target of the second half counts. Each target is tested before anything learns
it; settings are the defaults, and --tokens shortens examples. The model (`hstu`), its encoder alone and its counts
alone (`stack`) come from one run. Each counter is there twice: it forgets by half within 7 days, and within 90. A seed
is that of the stream (of a data set: of the order of rows of one instant) and of the model. Prints mean ± standard
deviation over the seeds; then, over the whole stream and all seeds, HR@10 by age of the item at the request, with all
targets.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from report import machine, save, table
from second_half import SecondHalf

from model.config import ATTENTION_NAMES, ModelSettings, TrainSettings
from model.data.item_age import SLICES
from model.learning.learner import Learner
from sim.experiment.contestants import Counting
from sim.experiment.feeds import micro_batches
from sim.experiment.streams import open_stream
from sim.sources.datasets import DATASETS
from stream.config import StreamSettings

COUNTERS = ("co_occurrence", "markov", "vsknn", "popularity")
HALF_LIVES_D = (7.0, 90.0)  # of each counter
COUNTING = {f"{name}_{days:.0f}d": (name, days) for name in COUNTERS for days in HALF_LIVES_D}
OF_MODEL = ("hstu", "encoder", "stack", "last_items")
NAMES = (*OF_MODEL, *COUNTING)
Found = tuple[dict[str, float], dict[str, NDArray[np.float64]]]  # HR@10 of the second half; targets and hits by age


def one_pass(name: str, limit: int | None, seed: int, model: ModelSettings, *, repeats: bool) -> Found:
    """Test and learn a stream once, with examples of as many tokens as the model takes."""
    size = {} if limit is None else {"limit" if name in DATASETS else "events": limit}
    feed = open_stream(name, size, seed, {"example_tokens": model.max_len}).feed()
    train = TrainSettings(seed=seed, device="cpu", exclude_seen=not repeats)
    learner = Learner(model, train)
    counters = {
        who: Counting(name, train.model_copy(update={"popularity_half_life_d": days}))
        for who, (name, days) in COUNTING.items()
    }
    half = {who: SecondHalf(feed.examples) for who in NAMES}
    ages = {who: np.zeros((len(SLICES), 2)) for who in NAMES}
    done = 0
    for records, batch in micro_batches(feed, train.batch_examples):
        learner.learn_items(records)
        counted = half[NAMES[0]].counted(learner.index.ask(batch), len(batch))
        if repeats:
            counted[:] = done >= feed.examples // 2
        done += len(batch)
        outcome = learner.step(batch).outcome
        assert outcome is not None
        ranks = dict(outcome.ranks)
        for counter, contestant in counters.items():
            contestant.learn_items(records)
            tested = contestant.step(batch, test=True, learn=True)
            assert tested is not None
            ranks[counter] = tested.ranks
        for who in NAMES:
            half[who].count(ranks[who][counted])
            np.add.at(ages[who], outcome.slices, np.stack((np.ones(len(counted)), ranks[who] <= 10), 1))
    return {who: half[who].figures()["hr10"] for who in NAMES}, ages


def cell(values: list[float]) -> str:
    """Return mean and standard deviation."""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0:.4f}"


def by_age(found: list[Found]) -> list[tuple[object, ...]]:
    """Return a row for each age that has targets: their number, and everybody's HR@10."""
    rows = []
    for place, age in enumerate(SLICES):
        sums = {who: sum(ages[who][place] for _, ages in found) for who in NAMES}
        if targets := int(sums[NAMES[0]][0]):
            rows.append((age, targets, *(f"{sums[who][1] / targets:.4f}" for who in NAMES)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="+", help="data sets or scenarios")
    parser.add_argument("--limit", type=int, help="rows or events at most")
    parser.add_argument(
        "--tokens", type=int, default=StreamSettings().example_tokens, help="tokens of an example at most"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--attention", choices=ATTENTION_NAMES, default="silu", help="of the encoder")
    parser.add_argument("--repeats", action="store_true", help="items that the user has acted on are candidates")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = ModelSettings(max_len=given.tokens, attention=given.attention)
    found: dict[str, list[Found]] = {name: [] for name in given.streams}
    for seed, name in itertools.product(given.seeds, given.streams):
        half, ages = one_pass(name, given.limit, seed, model, repeats=given.repeats)
        found[name].append((half, ages))
        print(f"{name}, seed {seed}:", *(f"{who} {half[who]:.4f}" for who in NAMES), flush=True)
    print(
        f"{machine()}; {time.strftime('%Y-%m-%d')}; limit {given.limit}, {given.tokens} tokens, "
        f"{given.attention}, seeds {given.seeds}"
    )
    table(
        ("HR@10", *NAMES),
        [(name, *(cell([half[who] for half, _ in runs]) for who in NAMES)) for name, runs in found.items()],
    )
    for name, runs in found.items():
        print(f"\n{name}, whole stream, by age of the item")
        table(("age", "targets", *NAMES), by_age(runs))
    figures = {name: {who: [half[who] for half, _ in runs] for who in NAMES} for name, runs in found.items()}
    settings = {name: vars(given)[name] for name in ("limit", "tokens", "attention", "seeds")}
    save("quality", settings | {"hr10": figures}, given.save)


if __name__ == "__main__":
    main()
