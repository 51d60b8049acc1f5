"""Runs of a trainer in one process for tests: settings, logs of both topics, and a driver that feeds them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.config import ModelSettings, TrainSettings
from model.distributed.ranks import ALONE
from model.trainer.run import Training
from tests.factories import START_MS, Record, make_examples, make_items

MODEL = ModelSettings(dim=16, layers=1, heads=2, max_len=64, rank_actions=("click", "like"))
TRAIN = TrainSettings(batch_examples=8, negatives=16, window_targets=20, checkpoint_s=1e9, snapshot_s=1e9)
LOGS = make_examples(seed=3, users=9, items=30, count=75, partitions=3)
HOUR_MS = 3_600_000
ITEMS = make_items(
    [
        (START_MS, "item 3", {"title": "Three"}),
        (START_MS + HOUR_MS // 4, "item 1", None),
        (START_MS + HOUR_MS // 2, "item 2", None),
        (START_MS + HOUR_MS, "item 1", {"title": "One, again"}),
    ],
    partitions=2,
)


def start(folder: Path, items: bool = True, **changes: Any) -> Training:
    """Start, or resume, a run in a folder."""
    model = MODEL.model_copy(update={k: v for k, v in changes.items() if k in ModelSettings.model_fields})
    train = TRAIN.model_copy(update={k: v for k, v in changes.items() if k in TrainSettings.model_fields})
    now = changes.get("now", lambda: 0.0)
    return Training(
        folder,
        train,
        model,
        partitions=changes.get("partitions", 3),
        items_partitions=2 if items else 0,
        topic_prefix=changes.get("topic_prefix", ""),
        now=now,
        clock=changes.get("clock", now),
        origin=changes.get("origin"),
        beside=changes.get("beside", False),
        ranks=changes.get("ranks", ALONE),
    )


def remaining(training: Training, items: bool = True) -> list[tuple[str, int, list[Record]]]:
    """Return the records of each partition that a run has not read yet, as (topic, partition, records)."""
    logs = [("examples", p, log) for p, log in enumerate(LOGS)]
    logs += [("items", p, log) for p, log in enumerate(ITEMS)] if items else []
    return [(topic, p, log[training.inbox.position(topic, p) :]) for topic, p, log in logs]


def run(
    training: Training,
    *,
    chunk: int = 1000,
    rng: np.random.Generator | None = None,
    items: bool = True,
    after_step: Callable[[int], bool] = lambda step: False,
) -> Training:
    """Feed a run until it has ended, or until after_step returns True.

    Partitions take turns with chunks of one size; with `rng`, partitions and sizes are random.
    """
    left = remaining(training, items)
    while True:
        while training.step():
            if after_step(training.learner.counts["steps"]):
                return training
        if training.ended:
            return training
        left = [(topic, p, log) for topic, p, log in left if log]
        turn = int(rng.integers(len(left))) if rng else 0
        size = int(rng.integers(1, chunk + 1)) if rng else chunk
        topic, p, log = left.pop(turn)
        training.inbox.offer(topic, p, log[:size])
        left.append((topic, p, log[size:]))


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl, without the entries that the wall clock decides."""
    text = (folder / "train" / "silu" / "metrics.jsonl").read_text()
    by_chance = ("wall_s", "tokens_per_s")
    return [{k: v for k, v in json.loads(line).items() if k not in by_chance} for line in text.splitlines()]
