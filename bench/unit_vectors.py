"""Unit vectors of all items whose features have moved, beside computing all of them anew from the tables.

python bench/unit_vectors.py. Each of --items items has six values: three of 20 (genres), one of 500 (a category), two
of --items / 5 (a brand, a maker). A step moves 1,200 rows of items and some rows of features. All ways take turns in
one process:

    anew          gather every item's values, sum their rows, normalize, into new memory
    shared        ours, where a step moves all genres, and so all items
    rare          ours, where it moves 200 brands: some 2,000 items
    own           ours, where it moves rows of items alone
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from report import clock_s, machine, save, spread, table
from torch.nn.functional import embedding_bag

from model.config import ModelSettings, TrainSettings
from model.data.item_features import ItemFeatures
from model.network.retrieval_loss import unit
from model.optim.parameters import Parameters, make_deterministic

GENRES, CATEGORIES = 20, 500


def described(items: int) -> tuple[Parameters, ItemFeatures]:
    """Return parameters whose items have six values each."""
    rng, brands = np.random.default_rng(0), items // 5
    features = ItemFeatures(["*"])
    weights = Parameters(ModelSettings(), TrainSettings(device="cpu"), features)
    weights.grow(np.arange(items, dtype=np.uint64), GENRES + CATEGORIES + brands)
    at = np.cumsum([0, GENRES, CATEGORIES, brands])
    share = np.array([1 / 3] * 3 + [1.0] * 3, np.float32)
    for row in range(items):
        genres = rng.choice(GENRES, 3, replace=False)
        others = at[1] + rng.integers(CATEGORIES), *(at[2] + rng.choice(brands, 2, replace=False))
        features.put(row, np.concatenate((genres, others)), share)
    return weights, features


def anew(weights: Parameters, features: ItemFeatures) -> torch.Tensor:
    """Return all unit vectors from the tables, at once."""
    state = features.state()
    there = state["rows"] >= 0
    offsets = np.concatenate(([0], np.cumsum(there.sum(1))))
    rows, shares, at = (
        torch.from_numpy(array) for array in (state["rows"][there].astype(np.int64), state["weights"][there], offsets)
    )
    own, table_FD = weights.items.rows, weights.features.rows
    bags = embedding_bag(rows, table_FD, at, mode="sum", per_sample_weights=shares, include_last_offset=True)
    return unit(own + bags)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    make_deterministic(1)
    weights, features = described(given.items)
    rng, none = np.random.default_rng(1), np.empty(0, np.int64)
    genres, brands = np.arange(GENRES), GENRES + CATEGORIES + np.arange(200)

    def ours(moved: np.ndarray) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            weights._units.moved(rng.integers(given.items, size=1200), moved)
            return weights.unit_items(given.items)

        return run

    runs = {"anew": lambda: anew(weights, features), "shared": ours(genres), "rare": ours(brands), "own": ours(none)}
    ms: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(given.rounds + 1):
        for name, run in runs.items():
            start = clock_s()
            found = run()
            if number:
                ms[name].append(1000 * (clock_s() - start))
            else:
                assert torch.equal(found, anew(weights, features)), f"{name} gives other bits"
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.items:,} items")
    base = statistics.median(ms["anew"])
    rows = [(name, *spread(each).values(), base / statistics.median(each)) for name, each in ms.items()]
    table(("", "ms a step min", "median", "max", "anew / this"), rows)
    save(f"unit_vectors_{given.items}items", {"items": given.items, "ms": ms}, given.save)


if __name__ == "__main__":
    main()
