"""Snapshots of real, untrained models for tests of queries, and sequences held in memory."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.arrays.state import prefixed
from model.config import ModelSettings
from model.data.catalogue import Catalogue, ItemRecord
from model.data.item_features import ItemFeatures
from model.data.vocabulary import Vocabulary
from model.fusion.clicks import Clicks
from model.fusion.log_linear import LogLinear
from model.learning.fusion import HEADS
from model.network.recommender import Recommender
from model.serving.answerer import Answerer
from model.storage.aliases import LATEST, move
from model.storage.snapshot import Manifest, Snapshot, write_snapshot
from stream.example import NO_KEY, TOKEN_DTYPE, Kind, id_key

NOW_MS = 1_700_000_000_000
HALF_LIFE_MS = 1_000_000  # of popularity; NOW_MS is a multiple, so that counts are sums
SETTINGS = ModelSettings(dim=16, layers=2, heads=2, max_len=32, rank_actions=("click", "like"))
FEATURES = ("click", "like", "country=NO")


class Memory:
    """Sequences held in a dictionary; keeps a list of the calls."""

    def __init__(self, users: dict[str, NDArray[Any]] | None = None) -> None:
        self.users, self.asked, self.closed, self.problem = users or {}, [], False, ""

    def tokens(self, user: str, last: int) -> NDArray[Any] | None:
        self.asked.append((user, last))
        found = self.users.get(user)
        return None if found is None else found[-last:]

    def first_users(self, most: int) -> list[str]:
        return sorted(self.users, key=id_key)[:most]

    def close(self) -> None:
        self.closed = True


def tokens_of(*texts: str, end_ms: int = NOW_MS) -> NDArray[Any]:
    """Return tokens a minute apart: "i1" shows an item, "i1 click" acts on it, "country=NO" is an attribute."""
    rows = []
    for place, text in enumerate(texts):
        content, _, action = text.partition(" ")
        kind = Kind.ACTION if action else Kind.ATTRIBUTE if "=" in content else Kind.IMPRESSION
        ts_ms = end_ms - 60_000 * (len(texts) - place)
        rows.append((id_key(content), id_key(action) if action else NO_KEY, ts_ms, kind))
    return np.array(rows, TOKEN_DTYPE)


HISTORY = tokens_of("country=NO", "i1", "i2", "i1 click", "i3", "i3 like", "i4 click")
USERS = {"ada": HISTORY, "new": HISTORY[:0], "stranger": tokens_of("x1", "x2 click", "pet=cat")}


def vocabulary(texts: Sequence[str]) -> Vocabulary:
    """Return a vocabulary of these texts, born one after another."""
    new = Vocabulary()
    keys = np.array([id_key(text) for text in texts], np.uint64)
    new.admit(keys, np.arange(len(texts), dtype=np.int64))
    new.learn_texts(keys.tolist(), texts)
    return new


def model_arrays(
    items: int = 20, withdrawn: Iterable[int] = (), settings: ModelSettings = SETTINGS, seed: int = 0
) -> dict[str, Any]:
    """Return the arrays of a model over items "i0", "i1", … with weights that all matter; "i3" was seen 3 times.

    Nothing is fused with the encoder's logit.
    """
    rng = np.random.default_rng(seed)
    recommender = Recommender(settings, seed=seed)
    weights = {
        name: value + 0.1 * torch.from_numpy(rng.normal(size=value.shape).astype(np.float32))
        for name, value in recommender.state_dict().items()
    }
    words, features, catalogue = vocabulary([f"i{i}" for i in range(items)]), vocabulary(FEATURES), Catalogue()
    for i in withdrawn:
        words.withdraw(id_key(f"i{i}"), NOW_MS)
    for i in range(items):
        catalogue.apply(ItemRecord(id_key(f"i{i}"), f"i{i}", f"Item {i}", {}, 0))
    fusion = LogLinear.encoder_alone(HEADS, items)
    return {
        **prefixed("recommender.", weights),
        **prefixed("fusion.", fusion),
        **prefixed("clicks.", Clicks.towers_alone(len(settings.rank_actions), items, len(FEATURES))),
        **prefixed("items.", words.state()),
        **prefixed("features.", features.state()),
        **prefixed("catalogue.", catalogue.state()),
        **prefixed("item_features.", ItemFeatures().state()),
        "items.weight": rng.normal(size=(items, settings.dim)).astype(np.float32),
        "features.weight": rng.normal(size=(len(FEATURES), settings.dim)).astype(np.float32),
        "popularity.sums": np.arange(items, dtype=np.float64),
        "popularity.clock": np.array([NOW_MS // HALF_LIFE_MS, HALF_LIFE_MS]),
        "popularity.at_ms": np.array(NOW_MS, np.int64),
    }


def snapshot_of(arrays: dict[str, Any], settings: ModelSettings = SETTINGS, **fields: Any) -> Snapshot:
    """Return a snapshot that was never on disk."""
    manifest = {"step": 1, "created": NOW_MS / 1000, "watermark_ms": NOW_MS - 60_000, "rank_targets": 9, **fields}
    tables = {"model": settings.model_dump(mode="json")}
    numpy = {name: array.numpy() if isinstance(array, torch.Tensor) else array for name, array in arrays.items()}
    return Snapshot(Path("of-tests"), Manifest(id="00000001-0", name="silu", settings=tables, **manifest), numpy)


def answerer(
    users: dict[str, Any] = USERS,
    withdrawn: Iterable[int] = (),
    settings: ModelSettings = SETTINGS,
    **fields: Any,
) -> Answerer:
    """Return an answerer over items i0 to i19, ten seconds after its snapshot was made."""
    arrays = model_arrays(withdrawn=withdrawn, settings=settings)
    wall_s = NOW_MS / 1000 + 10
    return Answerer(
        snapshot_of(arrays, settings, **fields),
        Memory(users),
        alias="latest",
        wall=lambda: wall_s,
    )


def write_model(
    directory: Path,
    step: int = 1,
    *,
    settings: ModelSettings = SETTINGS,
    alias: str | None = LATEST,
    arrays: dict[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """Write a model's snapshot, made a minute after its watermark, and point the alias to it."""
    manifest = {
        "name": "silu",
        "step": step,
        "created": NOW_MS / 1000,
        "watermark_ms": NOW_MS - 60_000,
        "rank_targets": 9,
        "settings": {"model": settings.model_dump(mode="json")},
        **fields,
    }
    path = write_snapshot(
        directory, arrays=model_arrays(seed=step) if arrays is None else arrays, manifest=Manifest(**manifest)
    )
    if alias:
        move(directory, alias, path.name)
    return path
