"""Many distinct ids through admission, expiry and a cap: how much memory, how many hits, how long.

python bench/lives.py [--ids 100_000_000]. Batches of 100,000 targets go through the vocabulary as a trainer's do, with
no model. A share of them (--fresh) show an id for the first time, most of which never come back; the others show ids
that are in fashion: one of the last --alive ids, the n-th in fashion with a weight of 1/n. What is in fashion moves on
with the new ids. A hit is a target whose id has a row when it is asked about. Each setting runs in its own process.
"""

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import clock_s, machine, save, table

from model.data.entity_index import EntityIndex
from model.data.micro_batch import PackedBatch
from model.keys.lives import Limits
from stream.example import NO_KEY, Kind

BATCH, BATCH_MS, DAY_MS = 100_000, 600_000, 86_400_000
SETTINGS = {
    "all are admitted, recent": Limits(1, 0, 1_000_000, "recent"),
    "admitted at the 2nd, recent": Limits(2, 0, 1_000_000, "recent"),
    "admitted at the 3rd, both": Limits(3, 0, 1_000_000, "both"),
    "admitted at the 2nd, 2 days, both": Limits(2, 2 * DAY_MS, 1_000_000, "both"),
}


class Ids:
    """The stream; ids are numbers, whose keys are mixed as a hash would."""

    def __init__(self, alive: int, fresh: float) -> None:
        self._alive, self._fresh, self.born = alive, fresh, alive
        self._rng = np.random.default_rng(0)

    def batch(self) -> np.ndarray:
        """Return the keys of the next targets, [BATCH]."""
        new = int(BATCH * self._fresh)
        rank = (self._alive ** self._rng.random(BATCH - new)).astype(np.int64)  # density 1 / rank
        popular = self.born - 1 - (rank * 2_654_435_761 % self._alive)
        ids = np.concatenate((np.arange(self.born, self.born + new), popular)).astype(np.uint64)
        self.born += new
        return (ids + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)


def packed(keys: np.ndarray, ts_ms: int) -> PackedBatch:
    """Return targets without histories as one micro-batch."""
    places, times = np.arange(len(keys)), np.full(len(keys), ts_ms)
    return PackedBatch(
        offsets=np.arange(len(keys) + 1),
        keys=keys,
        actions=np.full(len(keys), NO_KEY, np.uint64),
        ts_ms=times,
        kinds=np.full(len(keys), int(Kind.IMPRESSION), np.uint8),
        users=keys,
        positions=places,
        queries=np.full(len(keys), -1),
        owners=places,
        requests=places,
        request_ms=times,
        label_offsets=np.zeros(len(keys) + 1, np.int64),
        labels=np.empty(0, np.uint64),
    )


def measure(limits: Limits, ids: int, alive: int, fresh: float) -> dict[str, Any]:
    """Return the figures of one setting."""
    torch.set_num_threads(1)
    stream, index, worst_s, hits, asked = Ids(alive, fresh), EntityIndex(limits=limits), 0.0, 0, 0
    lives = index.lives
    assert lives is not None
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent_s, number = 0.0, 0
    while stream.born < ids:
        tokens = packed(stream.batch(), number * BATCH_MS)
        start_s = clock_s()
        index._bury(tokens)
        hits += int((index.items.rows(tokens.keys) >= 0).sum())
        index._admit(tokens, count=True)
        took_s = clock_s() - start_s
        spent_s, number, asked = spent_s + took_s, number + 1, asked + BATCH
        worst_s = max(worst_s, took_s) if number > 20 else 0.0  # the first ones compile
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mib
    figures = {"targets": asked, "hit rate": hits / asked, "of possible": hits / asked / (1 - fresh)}
    counts = {name: lives.counts[name] for name in ("born", "expired", "evicted", "readmitted")}
    return figures | counts | {
        "rows": len(index.items), "MiB": mib, "us a target": 1e6 * spent_s / asked, "worst batch ms": 1000 * worst_s
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=100_000_000)
    parser.add_argument("--alive", type=int, default=4_000_000, help="ids that may come back")
    parser.add_argument("--fresh", type=float, default=0.4, help="share of targets whose id is new")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    rows = {}
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.ids:,} distinct ids, batches of {BATCH:,} targets")
    for name, limits in SETTINGS.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows[name] = pool.apply(measure, (limits, given.ids, given.alive, given.fresh))
    heads = list(next(iter(rows.values())))
    table(("", *heads), [(name, *figures.values()) for name, figures in rows.items()])
    save(f"lives_{given.ids}ids", {"alive": given.alive, "fresh": given.fresh, "rows": rows}, given.save)


if __name__ == "__main__":
    main()
