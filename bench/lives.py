"""A hundred million ids through admission, expiry and a cap: memory, hits and time of the vocabulary alone.

python bench/lives.py --ids 100_000_000. Half of the occurrences show an id for the first time; the other half one that
is older by a log-uniform number of ids, 20,000 or more: most come back soon, some after millions of others. Event time
runs evenly through --days. An occurrence is a hit if its id has a row before it; `of repeats` counts only occurrences
of ids that were seen before, all of which a vocabulary without bounds would find. Keys, births and counts are held
as in a trainer, without texts and vectors: docs/scale.md adds these. CPU time, one core.

--deaths N [N ...] instead: what N items of a trainer cost that all die in one step, with texts, vectors and counts,
beside a micro-batch in which none does. Neither is trained on.
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

from model.config import ModelSettings, TrainSettings
from model.data.event_time import DAY_MS
from model.data.vocabulary import Vocabulary
from model.keys.lives import Limits, Lives
from model.learning.learner import Learner
from stream.example import Example, Kind, id_key

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


def micro_batch(keys: NDArray[np.uint64], ts_ms: int) -> list[Example]:
    """Return one example of actions on items, the last of which is a target."""
    n, click = len(keys), id_key("click")
    ids = tuple(f"item {key:020d}" for key in keys.tolist())
    one = Example(
        partition=0,
        serial=1,
        user=1,
        first=0,
        keys=keys,
        actions=np.full(n, click, np.uint64),
        ts_ms=np.full(n, ts_ms),
        kinds=np.full(n, Kind.ACTION, np.uint8),
        positions=np.array([n - 1], np.int32),
        queries=np.array([n - 2], np.int32),
        requests=np.array([0], np.uint32),
        request_ms=np.array([ts_ms]),
        label_offsets=np.array([0, 1], np.uint32),
        labels=np.array([click], np.uint64),
        final_ms=ts_ms,
        text_keys=keys,
        texts=ids,
    )
    return [one]


def deaths(count: int) -> dict[str, float]:
    """Return the ms of a micro-batch in which none dies, and of one in which so many do, the second time."""
    learner = Learner(ModelSettings(), TrainSettings(item_ttl_d=1.0, replay_every=0), baselines=False)
    spent: dict[str, float] = {}
    for turn in range(2):
        numbers, ts_ms = np.arange(turn * (count + 1), (turn + 1) * (count + 1)), DAY_MS * (10 + 3 * turn)
        keys = key_of(numbers)
        for start in range(0, count, 400):
            learner._take_in(micro_batch(keys[start : min(start + 400, count)], ts_ms))
        for name, later_ms in (("none dies", DAY_MS // 2), ("all die", 2 * DAY_MS)):
            batch = micro_batch(key_of(numbers[-1:] + 10**9 + np.arange(3)), ts_ms + later_ms)
            start_s = clock_s()
            died = learner.items.known
            learner._take_in(batch)
            spent[name] = 1000 * (clock_s() - start_s)
        assert died - learner.items.known >= count - 3
    return {"deaths": count, **spent, "us a death": 1000 * spent["all die"] / count}


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
    parser.add_argument("--deaths", type=int, nargs="+", help="items that die in one step")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.deaths:
        print(f"{machine()}; {time.strftime('%Y-%m-%d')}")
        found_n = [deaths(count) for count in given.deaths]
        table(("deaths", "ms of a batch without", "with", "us a death"), [tuple(each.values()) for each in found_n])
        save("deaths", {"deaths": found_n}, given.save)
        return
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
