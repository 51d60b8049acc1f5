"""Events per second of the paper's stream on one core: its arrays, and the JSON events that go to Kafka.

python bench/generator.py, for each law of items within a category; each run makes the first records again. Compared
with a loop that draws event after event as the paper describes it, one record at a time, with NumPy's generator.
"""

import argparse
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import machine, save, seconds, spread, table

from sim.dirichlet.stream import BLOCK, DirichletSettings, DirichletStream

BY_HAND = 8  # records of the loop


def arrays(stream: DirichletStream, blocks: int) -> int:
    """Make some blocks of records; return the number of events."""
    return sum(stream.records(number * BLOCK, (number + 1) * BLOCK).items.size for number in range(1, blocks + 1))


def events(stream: DirichletStream, count: int) -> int:
    """Make JSON events; return their number."""
    deque(islice(stream.events(BLOCK * stream.settings.length), count), maxlen=0)
    return count


def by_hand(stream: DirichletStream) -> int:
    """Draw records one event after the other, with counts; return the number of events."""
    rng, given = np.random.default_rng(0), stream.settings
    members = [np.flatnonzero(stream.category_I[: given.items] == c) for c in range(given.categories)]
    for _ in range(BY_HAND):
        drawn = rng.integers(given.categories, size=given.slots)
        prior, alpha = rng.dirichlet(np.ones(given.slots)), rng.uniform(given.alpha_low, given.alpha_high)
        counts = np.zeros(given.categories)
        for n in range(given.length):
            fresh = rng.random() < alpha / (alpha + n)
            category = rng.choice(drawn, p=prior) if fresh else rng.choice(given.categories, p=counts / n)
            rng.choice(members[category])
            counts[category] += 1
    return BY_HAND * given.length


def measure(zipf: float, blocks: int, repeats: int) -> list[dict[str, Any]]:
    """Return events/s of arrays, of JSON and, for the uniform law, of the loop."""
    stream = DirichletStream(DirichletSettings(zipf=zipf))
    ways: dict[str, Callable[[], int]] = {
        "arrays": lambda: arrays(stream, blocks),
        "JSON events": lambda: events(stream, blocks * BLOCK * stream.settings.length // 4),
    }
    if not zipf:
        ways["event by event"] = lambda: by_hand(stream)
    rows = []
    for name, run in ways.items():
        per_s = [run() / each for each in seconds(run, repeats)]
        rows.append({"law": f"zipf {zipf:g}" if zipf else "uniform", "what": name, "events_per_s": spread(per_s)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zipf", type=float, nargs="*", default=[0.0, 1.0])
    parser.add_argument("--blocks", type=int, default=8, help=f"of {BLOCK} records each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)  # so that report.py measures CPU time
    rows = [row for zipf in given.zipf for row in measure(zipf, given.blocks, given.repeats)]
    slow = next((row["events_per_s"]["median"] for row in rows if row["what"] == "event by event"), float("nan"))
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; CPU time of one core")
    cells = [(f"{row['law']}, {row['what']}", *row["events_per_s"].values()) for row in rows]
    heads = ("", "events/s min", "median", "max", "of event by event")
    table(heads, [(*cell, row["events_per_s"]["median"] / slow) for cell, row in zip(cells, rows, strict=True)])
    save("generator", {"blocks": given.blocks, "results": rows}, given.save)


if __name__ == "__main__":
    main()
