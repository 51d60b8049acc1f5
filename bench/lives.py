"""A hundred million ids through admission, expiry and a cap: memory, hits and time of the vocabulary alone.

python bench/lives.py --ids 100_000_000. Half of the occurrences show an id for the first time; the other half one that
is older by a log-uniform number of ids, 20,000 or more: most come back soon, some after millions of others. Event time
runs evenly through --days. An occurrence is a hit if its id has a row before it; `of repeats` counts only occurrences
of ids that were seen before, all of which a vocabulary without bounds would find. Keys, births and counts are held
as in a trainer, without texts and vectors: docs/scale.md adds these. CPU time, one core.
"""

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from report import clock_s, machine, save, table

from model.data.event_time import DAY_MS
from model.data.vocabulary import Vocabulary
from model.keys.lives import Limits, Lives

BATCH = 20_000  # occurrences


def key_of(number: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the key of each id: splitmix64, which gives no key twice."""
    mixed = (number.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    keys: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return keys


def occurrences(born: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the numbers of the ids of a batch, of which half are new, after so many ids."""
    fresh = rng.random(BATCH) < 0.5
    number = born + np.cumsum(fresh) - 1
    back = BATCH * np.exp(rng.random(BATCH) * np.log(np.maximum(number / BATCH, 1)))
    return np.where(fresh, number, np.maximum(number - back.astype(np.int64), 0))


class Simulation:
    """One vocabulary under bounds; the calls are those of EntityIndex.take_in, in their order."""

    def __init__(self, limits: Limits) -> None:
        self.items, self.lives = Vocabulary(), Lives(limits)
        self.hits = self.repeats = self.seen = self.born = 0
        self.most_rows = 0

    def take_in(self, numbers: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> None:
        """Let rows leave, then ids enter."""
        items, lives, keys = self.items, self.lives, key_of(numbers)
        if lives.due(int(ts_ms[0]), items.known):
            rows = lives.leaving(items.used_mask(), items.withdrawn)
            lives.bury(rows, items.keys[rows], items.born_ms[rows])
            items.bury(rows)
        before, own = items.rows(keys), np.ones(len(keys), np.bool_)
        enters = lives.may_enter(keys, ts_ms, own, before, count=True)
        items.admit(keys[enters], ts_ms[enters], lives.room(items.known))
        row = items.rows(keys)
        lives.enter(keys[(before < 0) & (row >= 0)])
        lives.see(row, ts_ms, own, len(items), count=True)
        self.seen += len(keys)
        self.hits += int((before >= 0).sum())
        self.repeats += len(keys) - (int(numbers.max()) + 1 - self.born)
        self.born = int(numbers.max()) + 1
        self.most_rows = max(self.most_rows, items.known)


def run(ids: int, days: float, limits: Limits) -> dict[str, Any]:
    """Return the figures of one run."""
    made, rng, slowest_ms = Simulation(limits), np.random.default_rng(0), 0.0
    span_ms, start_s, told = days * DAY_MS, clock_s(), 0
    while made.born < ids:
        numbers = occurrences(made.born, rng)
        ts_ms = (np.arange(made.seen, made.seen + BATCH) * (span_ms / (2 * ids))).astype(np.int64)
        begin_s = clock_s()
        made.take_in(numbers, ts_ms)
        slowest_ms = max(slowest_ms, 1000 * (clock_s() - begin_s))
        if made.born * 20 // ids > told:
            told = made.born * 20 // ids
            print(f"{made.born:,} ids, {made.items.known:,} rows, {clock_s() - start_s:.0f} s", flush=True)
    cpu_s, counts = clock_s() - start_s, made.lives.counts
    return {
        "ids": made.born,
        "occurrences": made.seen,
        "hits": made.hits / made.seen,
        "of repeats": made.hits / made.repeats,
        "rows": made.items.known,
        "most rows": made.most_rows,
        "born": counts["born"],
        "expired": counts["expired"],
        "evicted": counts["evicted"],
        "readmitted": counts["readmitted"],
        "cpu_s": cpu_s,
        "us an occurrence": 1e6 * cpu_s / made.seen,
        "slowest ms": slowest_ms,
        "table MiB": made.items._table.nbytes / 2**20,
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=100_000_000)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--admit-after", type=int, default=2)
    parser.add_argument("--ttl-d", type=float, default=1.0)
    parser.add_argument("--max-items", type=int, default=1_000_000)
    parser.add_argument("--evict", choices=["recent", "frequent", "both"], default="both")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    limits = Limits(given.admit_after, round(given.ttl_d * DAY_MS), given.max_items, given.evict)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {limits}")
    found = run(given.ids, given.days, limits)
    table(
        ("", "figure"),
        [(name, f"{value:,.3f}" if isinstance(value, float) else value) for name, value in found.items()],
    )
    save("lives", {"limits": limits._asdict(), **found}, given.save)


if __name__ == "__main__":
    main()
