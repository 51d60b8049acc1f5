"""Tokens/s of Learner.step beside a learner written the plain way: padded eager PyTorch, all of it dense (padded.py).

python bench/train.py. A MovieLens-like stream (movies.py), a live catalogue of --items, default settings except that
there are no recency means and no replay, and embeddings learn as fast as the rest. Both train on the same micro-batches
in turns, --steps at a time, in one process; the first losses must agree, since the models are equal. Then where
each ms of ours goes: medians over steps, by timers around its parts.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from movies import START_MS, film_keys, make_movies
from padded import PaddedLearner
from report import clock_s, machine, save, spread, table

from model.baselines.popularity import Popularity
from model.config import ModelSettings, TrainSettings
from model.data.entity_index import EntityIndex
from model.evaluation.prequential import Prequential
from model.learning import negatives
from model.learning.forward_pass import ForwardPass
from model.learning.learner import Learner
from model.learning.ranker import Ranker
from model.network.recommender import Recommender
from model.optim.dense_adamw import DenseAdamW
from model.optim.embedding_table import EmbeddingTable
from model.optim.unit_vectors import UnitVectors
from stream.example import Example

WARM = 4800  # examples passed over: by then histories have grown
PARTS = (  # name, owner, method; inner ones are taken out of those around them
    ("questions", EntityIndex, "_questions"),
    ("admission", Learner, "_take_in"),
    ("negatives", Learner, "_draw_negatives"),
    ("encoder, forward", Recommender, "encode"),
    ("heads and gathering", ForwardPass, "__init__"),
    ("scoring the catalogue", Ranker, "ranks"),
    ("metrics", Prequential, "record"),
    ("losses", ForwardPass, "_retrieval_loss"),
    ("backward", torch.Tensor, "backward"),
    ("dense AdamW", DenseAdamW, "step"),
    ("rows' AdamW", EmbeddingTable, "step"),
    ("unit vectors of what moved", UnitVectors, "first"),
    ("popularity learns", Popularity, "learn"),
    ("the rest", Learner, "step"),
)


def new_learner(items: int, threads: int) -> Learner:
    """Return a plain HSTU that knows all items, as after a long stream."""
    train = TrainSettings(threads=threads, device="cpu", embedding_rate_ratio=1, replay_every=0)
    learner = Learner(ModelSettings(recency_decays=()), train)
    learner.items.admit(film_keys(items), np.full(items, START_MS - 1))
    learner.weights.grow(learner.items.keys, 2)
    learner.popularity.add(np.arange(items), np.full(items, START_MS - 1))
    return learner


@contextmanager
def timers() -> Iterator[dict[str, float]]:
    """Sum the seconds of each part while this lasts, without those of inner parts."""
    own: dict[str, float] = defaultdict(float)
    inside: list[float] = [0.0]

    def timed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            inside.append(0.0)
            start = clock_s()
            try:
                return method(*args, **kwargs)
            finally:
                took = clock_s() - start
                own[name] += took - inside.pop()
                inside[-1] += took

        return call

    kept = [(owner, method, getattr(owner, method)) for _, owner, method in PARTS]
    for (name, _, _), (owner, method, plain) in zip(PARTS, kept, strict=True):
        setattr(owner, method, timed(name, plain))
    try:
        yield own
    finally:
        for owner, method, plain in kept:
            setattr(owner, method, plain)


class Rival:
    """The padded learner, on the rows that ours has given the tokens."""

    def __init__(self, learner: Learner) -> None:
        self._learner, self._padded = learner, PaddedLearner(learner)

    def step(self, examples: list[Example]) -> float:
        """Test and train on negatives of its own."""
        ours, read = self._learner, self._learner.index.take_in(examples).batch
        batch, targets = read.tokens, read.targets
        popularity_R, rng = ours.popularity.counts(int(batch.request_ms.max())), np.random.default_rng(0)
        drawn = negatives.draw(ours.items.live(), popularity_R, ours.train, rng)
        return self._step(batch, targets, drawn)

    def first_loss(self, examples: list[Example]) -> float:
        """Step on the negatives that ours will draw."""
        ours, read = self._learner, self._learner.index.take_in(examples).batch
        batch, targets = read.tokens, read.targets
        drawn = ours._draw_negatives(batch, targets)
        assert drawn is not None
        return self._step(batch, targets, drawn)

    def _step(self, batch: Any, targets: Any, drawn: negatives.Negatives) -> float:
        item_L, action_L = self._learner.items.rows(batch.keys), self._learner.features.rows(batch.actions)
        return self._padded.step(batch, targets, drawn, torch.from_numpy(item_L), torch.from_numpy(action_L))


def rounds(learner: Learner, rival: Rival, batches: list[list[Example]], steps: int) -> dict[str, list[float]]:
    """Return the ms a step of each learner in each round; they take turns to begin."""
    ms: dict[str, list[float]] = {"ours": [], "padded": []}
    runs = (("ours", learner.step), ("padded", rival.step))
    for number, first in enumerate(range(0, len(batches) - steps + 1, steps)):
        for name, step in runs[:: 1 - 2 * (number % 2)]:
            start = clock_s()
            for batch in batches[first : first + steps]:
                step(batch)
            ms[name].append(1000 * (clock_s() - start) / steps)
    return ms


def parts_ms(learner: Learner, batches: list[list[Example]]) -> dict[str, float]:
    """Return the median ms a step of each part."""
    steps = []
    for batch in batches:
        with timers() as own:
            learner.step(batch)
        steps.append(own)
    return {name: 1000 * statistics.median(own[name] for own in steps) for name, _, _ in PARTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=15, help="of a round")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    learner = new_learner(given.items, given.threads)
    count = learner.train.batch_examples
    made = make_movies(WARM + count * given.steps * given.rounds, films=given.items)[WARM:]
    batches = [made[i : i + count] for i in range(0, len(made), count)]
    rival = Rival(learner)
    losses = rival.first_loss(batches[0]), learner.step(batches[0]).loss
    assert abs(losses[0] - losses[1]) < 1e-3, f"not the same model: {losses}"
    rounds(learner, rival, batches[: given.steps], given.steps)
    ms = rounds(learner, rival, batches, given.steps)
    show(given, batches, ms, parts_ms(learner, batches[-3 * given.steps :]), losses)


def show(
    given: Any, batches: list[list[Example]], ms: Any, parts: dict[str, float], losses: tuple[float, float]
) -> None:
    tokens = statistics.mean(sum(len(example.keys) for example in batch) for batch in batches)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}")
    print(f"{tokens:,.0f} tokens a step, {given.items:,} live items; first losses {losses[0]:.6f}, {losses[1]:.6f}")
    medians = {name: statistics.median(each) for name, each in ms.items()}
    ratio = statistics.median(theirs / ours for ours, theirs in zip(ms["ours"], ms["padded"], strict=True))
    table(
        ("", "ms/step min", "median", "max", "tokens/s"),
        [(name, *spread(each).values(), 1000 * tokens / medians[name]) for name, each in ms.items()],
    )
    print(f"padded / ours: {ratio:.2f} (median of {given.rounds} rounds)\n")
    whole = sum(parts.values())
    table(("part of ours", "ms", "share"), [(name, part, f"{part / whole:.0%}") for name, part in parts.items()])
    figures = {"items": given.items, "tokens_a_step": tokens, "ms_a_step": ms, "ratio": ratio, "parts_ms": parts}
    save(f"train_{given.items}items", figures, given.save)


if __name__ == "__main__":
    main()
