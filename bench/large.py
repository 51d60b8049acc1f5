"""A trainer with a large catalogue: what a test costs, and how long it stands still for checkpoints and snapshots.

python bench/large.py --items 1000000. Default settings; all items are known, as after a long stream, and have counts.
Examples are short: one target each, of a history of --tokens, as where every event is its own example.

The first table has CPU ms of a step of 8 examples: all of its targets tested, the default share, and none; in turns.
The second has the wall time for which a step waits: to write in line, and to begin a writer beside the training, which
copies no memory; then the memory that this process has, at most, and what the writer has for itself at its end. The
third has the step in which the tables of all items double: copied, as elsewhere than on Linux, and moved by the kernel.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from movies import START_MS, film_keys, make_movies
from report import clock_s, machine, save, spread, table

from model.arrays import growable
from model.config import ModelSettings, TrainSettings
from model.learning.learner import Learner
from model.optim.embedding_table import BLOCK
from model.storage.background import Background
from model.storage.checkpoint import Checkpoint, write_checkpoint
from model.storage.snapshot import Manifest, write_snapshot

WARM = 9  # steps; after 64 events the fusion has drawn the pool by which it learns
STEPS = 2 * WARM + 21  # around the one in which tables double
SHARES = {"all targets tested": 1.0, "the default share": 0.0, "none": None}


def known(items: int) -> Learner:
    """Return a learner that knows all items."""
    learner = Learner(ModelSettings(), TrainSettings(device="cpu"))
    learner.items.admit(film_keys(items), np.full(items, START_MS - 1))
    learner.items.learn_texts(film_keys(items).tolist(), [f"film {row}" for row in range(items)])
    learner.weights.grow(learner.items.keys, 2)
    learner.popularity.add(np.arange(items), np.full(items, START_MS - 1))
    return learner


def steps_ms(learner: Learner, batches: list[Any], rounds: int) -> dict[str, list[float]]:
    """Return the CPU ms of each step by what is tested; the ways take turns."""
    ms: dict[str, list[float]] = {name: [] for name in SHARES}
    left = iter(batches)
    for number in range(rounds + 1):
        for name, share in SHARES.items():
            if share is not None and hasattr(learner.train, "test_share"):
                learner.train = learner.train.model_copy(update={"test_share": share})
            start = clock_s()
            learner.step(next(left), test=share is not None)
            if number:
                ms[name].append(1000 * (clock_s() - start))
    return ms


def growth(items: int, batches: list[Any]) -> list[tuple[object, ...]]:
    """Return name, ms of a step before, of the one in which every table doubles, and of a step after, as CPU ms."""
    rows = []
    for name, in_place in (("copied", False), ("moved", True)):
        with patch.object(growable, "_MAPS", growable._MAPS and in_place):
            learner = known(items)
            more = film_keys(-(-items // BLOCK) * BLOCK + 1)[items:]
            each: list[float] = []
            for number, batch in enumerate(batches):
                start = clock_s()
                if number == len(batches) // 2:
                    learner.items.admit(more, np.full(len(more), START_MS))
                learner.step(batch, test=False)
                each.append(1000 * (clock_s() - start))
        middle = len(batches) // 2
        before, after = statistics.median(each[WARM:middle]), statistics.median(each[middle + 1 :])
        rows.append((name, before, each[middle], after))
    return rows


def stalls(learner: Learner, folder: Path, batches: list[Any]) -> list[tuple[object, ...]]:
    """Return name, ms in line, ms to begin beside, s until it is written, CPU ms of a step meanwhile, MiB of writer."""
    manifest = Manifest(name="large", created=0.0, watermark_ms=0, step=1)
    jobs = {
        "checkpoint": lambda: write_checkpoint(folder / "train", Checkpoint(learner.state(), {"step": 1})),
        "snapshot": lambda: write_snapshot(folder / "snapshots", arrays=learner.snapshot_arrays(0), manifest=manifest),
    }
    rows, beside = [], Background()
    for name, job in jobs.items():
        own: list[str] = []

        def writes(job: Any = job) -> str:
            before = _private_mib()
            job()
            return str(_private_mib() - before)

        start = time.perf_counter()
        beside.begin(name, writes, own.append)
        began, meanwhile = time.perf_counter() - start, []
        while beside.busy and batches:
            at = clock_s()
            learner.step(batches.pop(), test=False)
            meanwhile.append(1000 * (clock_s() - at))
            beside.note()
        beside.wait()
        written = time.perf_counter() - start
        start = time.perf_counter()
        job()
        inline = time.perf_counter() - start
        rows.append((name, 1000 * inline, 1000 * began, written, statistics.median(meanwhile), float(own[0])))
    return rows


def _private_mib() -> float:
    lines = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    made = make_movies(8 * (3 * given.rounds + 100), films=given.items, burst=1, tokens=given.tokens)
    batches = [made[i : i + 8] for i in range(0, len(made), 8)]
    learner = known(given.items)
    for batch in batches[:WARM]:
        learner.step(batch, test=False)
    first, batches, tested = batches[:STEPS], batches[WARM:], 3 * (given.rounds + 1)
    ms = steps_ms(learner, batches[:tested], given.rounds)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.items:,} items")
    table(("a step with", "CPU ms min", "median", "max"), [(name, *spread(each).values()) for name, each in ms.items()])
    with tempfile.TemporaryDirectory(prefix="hstu-bench-") as folder:
        rows = stalls(learner, Path(folder), batches[tested:])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table(("", "in line, ms", "beside, ms", "written after s", "CPU ms a step", "writer's own MiB"), rows)
    print(f"peak of this process: {peak:,.0f} MiB")
    del learner
    grown = growth(given.items, first)
    table(("tables are", "CPU ms of a step before", "of that step", "of one after"), grown)
    figures = {"items": given.items, "ms": ms, "growth": grown, "stalls": rows, "peak_mib": peak}
    save(f"large_{given.items}items", figures, given.save)


if __name__ == "__main__":
    main()
