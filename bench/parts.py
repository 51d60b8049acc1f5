"""What each part of the model adds: HR@10 of the second half with one part left out at a time.

    python bench/parts.py movielens ml-100k --limit 24000 --seeds 1 2
    python bench/parts.py growth shock rotation --limit 6000 --seeds 1 2 3

Counts first: beside one learner, fused scores without some of their features (their weights stay 0) answer and learn
the same targets by the same encoder. Then the encoder: a learner for each setting that takes a part out. Items that the
user has acted on are left out; examples have 64 tokens (--tokens). A seed is that of the stream (of a data set: of the
order of rows of one instant) and of the model. Prints the mean over the seeds, and the mean and standard deviation of
what leaving the part out changes.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from report import clock_s, machine, save, table
from second_half import SecondHalf

from model.config import ModelSettings, TrainSettings
from model.data.candidates import Questions
from model.evaluation.prequential import MODEL
from model.fusion.log_linear import FEATURES, Head, LogLinear
from model.learning.learner import Learner
from sim.experiment.feeds import micro_batches
from sim.experiment.streams import open_stream
from sim.sources.datasets import DATASETS

WHOLE = "all parts"
COUNTS: Mapping[str, Sequence[str]] = {  # features
    "without popularity of hours": ("hours", "quarter_days", "days"),
    "without popularity of weeks and more": ("weeks", "months", "ever"),
    "without what goes together": ("together",),
    "without what follows": ("following", "own_following"),
    "without own items": ("own",),
    "without nearest histories": ("neighbours",),
    "without the encoder": ("encoder",),
    "without any counts": FEATURES[1:],
}
SETTINGS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {  # of model and of train
    "without the pooled path": ({"recency_decays": ()}, {}),
    "without replay": ({}, {"replay_every": 0}),
    "without dropout in replay": ({}, {"replay_input_dropout": 0.0, "replay_output_dropout": 0.0}),
    "embeddings at the rate of the rest": ({}, {"embedding_rate_ratio": 1.0}),
    "without time bias": ({"bias": "none"}, {}),
    "256 negatives": ({}, {"negatives": 256}),
}


class Figures(NamedTuple):
    """Of one stream and seed."""

    hr10: dict[str, float]  # by what is left out
    cpu_s: dict[str, float]  # of the learners


class Beside:
    """Fused scores without some features, which see what a learner's fusion sees."""

    def __init__(self, linear: LogLinear, left_out: Sequence[str]) -> None:
        self._step: Callable[..., NDArray[np.float64]] = linear.step
        self._others = [without(features) for features in COUNTS.values()] if left_out else []
        self.ranks: list[list[NDArray[np.float64]]] = [[] for _ in self._others]
        linear.step = self.step  # type: ignore[method-assign]

    def step(self, asked: Questions, answered: Questions, **how: Any) -> NDArray[np.float64]:
        """Answer and learn by all."""
        for ranks, other in zip(self.ranks, self._others, strict=True):
            ranks.append(other.step(asked, answered, ranked=[0], encoded=how["encoded"])[0])
        return self._step(asked, answered, **how)

    def taken(self) -> list[NDArray[np.float64]]:
        """Return the ranks of each since the last call, [P]."""
        found = [np.concatenate([np.empty(0), *ranks]) for ranks in self.ranks]
        for ranks in self.ranks:
            ranks.clear()
        return found


def without(features: Sequence[str]) -> LogLinear:
    """Return a fused score in which the weights of some features are 0 and stay so."""
    made = LogLinear([Head(new_only=True, encoded=True)])
    state = made.state()
    for feature in features:
        state["weights"][:, :, FEATURES.index(feature)] = 0.0
        state["squares"][:, :, FEATURES.index(feature)] = np.inf
    return made


def one_pass(given: argparse.Namespace, name: str, seed: int, part: str) -> Figures:
    """Test and learn a stream once; of the whole model, also without each of the counts."""
    size = {} if given.limit is None else {"limit" if name in DATASETS else "events": given.limit}
    feed = open_stream(name, size, seed, {"example_tokens": given.tokens}).feed()
    model, train = SETTINGS.get(part, ({}, {}))
    learner = Learner(
        ModelSettings(**{"max_len": given.tokens, **model}),
        TrainSettings(**{"seed": seed, "device": "cpu", "exclude_seen": True, **train}),
        baselines=False,
    )
    assert learner._fusion._linear is not None
    beside = Beside(learner._fusion._linear, list(COUNTS) if part == WHOLE else [])
    names = [part, *(COUNTS if part == WHOLE else ())]
    halves, half, cpu_s = {who: SecondHalf(feed.examples) for who in names}, SecondHalf(feed.examples), 0.0
    for records, batch in micro_batches(feed, learner.train.batch_examples):
        learner.learn_items(records)
        counted = half.counted(learner.index.ask(batch), len(batch))
        start_s = clock_s()
        outcome = learner.step(batch).outcome
        cpu_s += clock_s() - start_s
        assert outcome is not None
        for who, ranks in zip(names, (outcome.ranks[MODEL], *beside.taken()), strict=True):
            halves[who].count(ranks[counted])
    return Figures({who: halves[who].figures()["hr10"] for who in names}, {part: cpu_s})


def row(part: str, found: Sequence[Figures]) -> tuple[str, str, str]:
    """Return a part, HR@10 without it, and what that changes."""
    values = [each.hr10[part] for each in found]
    changes = [each.hr10[part] - each.hr10[WHOLE] for each in found]
    spread = statistics.stdev(changes) if len(changes) > 1 else 0.0
    return part, f"{statistics.mean(values):.4f}", f"{statistics.mean(changes):+.4f} ± {spread:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="+", help="data sets or scenarios")
    parser.add_argument("--limit", type=int, help="rows or events at most")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an example at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--counts", action="store_true", help="only counts are left out: one learner a seed")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; limit {given.limit}, {given.tokens} tokens, seeds {given.seeds}")
    saved = {}
    for name in given.streams:
        parts = [WHOLE, *(() if given.counts else SETTINGS)]
        found: list[Figures] = []
        for seed, part in itertools.product(given.seeds, parts):
            one = one_pass(given, name, seed, part)
            if part == WHOLE:
                found.append(Figures({}, {}))
            found[-1].hr10.update(one.hr10)
            found[-1].cpu_s.update(one.cpu_s)
            for left_out, hr10 in one.hr10.items():
                print(f"{name}, seed {seed}, {left_out}: {hr10:.4f}")
            print(f"{name}, seed {seed}, {part}: {one.cpu_s[part]:.0f} s", flush=True)
        table((name, "HR@10", "change"), [row(part, found) for part in found[0].hr10])
        saved[name] = [each._asdict() for each in found]
    save("parts", {"limit": given.limit, "tokens": given.tokens, "seeds": given.seeds, "figures": saved}, given.save)


if __name__ == "__main__":
    main()
