"""A scorer as in a server, of an untrained model over many items, and a long history for its queries."""

from pathlib import Path

import numpy as np
import torch

from model.config import ModelSettings, TrainSettings
from model.learning.learner import Learner
from model.serving.scorer import Scorer
from model.storage.snapshot import Manifest, Snapshot
from model.user_states.history import History
from stream.example import Kind, id_key

NOW_MS = 1_700_000_000_000


def make_snapshot(model: ModelSettings, items: int, seed: int = 0) -> Snapshot:
    """Return a snapshot of an untrained model over items "i0", "i1", … and the action "click"."""
    learner = Learner(model, TrainSettings(seed=seed, device="cpu", threads=torch.get_num_threads()))
    learner.items.admit(np.array([id_key(f"i{item}") for item in range(items)], np.uint64), np.zeros(items, np.int64))
    learner.features.admit(np.array([id_key("click")], np.uint64), np.zeros(1, np.int64))
    learner.weights.grow(learner.items.keys, 1)
    arrays = learner.snapshot_arrays(NOW_MS)
    arrays = {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in arrays.items()}
    settings = {"model": model.model_dump(mode="json")}
    manifest = Manifest(name="bench", step=1, created=0.0, watermark_ms=0, settings=settings, rank_targets=1)
    return Snapshot(Path("bench"), manifest, arrays)


def make_scorer(model: ModelSettings, items: int, seed: int = 0) -> Scorer:
    """Return the scorer of such a snapshot."""
    return Scorer(make_snapshot(model, items, seed))


def make_history(length: int, items: int, seed: int = 0) -> History:
    """Return a history of clicks a minute apart, the last one a minute ago."""
    rng = np.random.default_rng(seed)
    return History(
        items_n=rng.integers(items, size=length),
        features_n=np.full(length, -1),
        actions_n=np.zeros(length, np.int64),
        ts_ms_n=NOW_MS - 60_000 * np.arange(length, 0, -1),
        kinds_n=np.full(length, int(Kind.ACTION)),
    )
