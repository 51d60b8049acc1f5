"""How long a worker that starts again takes to open its partitions, by how many requests are inside their windows.

Each of --requests users has one open request, of ten items, in four partitions. One process makes the stores through
the core; a new one opens them one after the other, as a worker does. --against PATH measures another checkout too.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from partition_logs import START_MS, Batches, in_checkout, slate
from report import machine, save, table

from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.schema.topics import SourceTopic
from stream.store.rocksdb import open_store, partition_path

HERE = Path(__file__).parents[1]
SETTINGS = StreamSettings(lateness_s=0, action_window_s=86_400)
BATCH = 5000


def make(folder: Path, requests: int) -> dict[str, float]:
    """Make the stores; return the memory that is resident then."""
    rng, partitions = random.Random(0), []
    for number in range(SETTINGS.partitions):
        partition, batches = Partition(open_store(partition_path(folder, number)), number, SETTINGS), Batches()
        for start in range(0, requests // SETTINGS.partitions, BATCH):
            numbers = range(start, start + BATCH)
            shown = [
                slate(f"u{number}-{n}", n, START_MS + n, [f"i{rng.randrange(100_000)}-{place}" for place in range(10)])
                for n in numbers
            ]
            for source, records in batches.make(shown, [], START_MS + start + BATCH).items():
                partition.handle(source, records)
            partition.outbox.sent(partition.outbox.last)
        partitions.append(partition)
    resident = resident_mib()
    for partition in partitions:
        partition.close()
    return {"resident_mib": resident}


def open_again(folder: Path) -> dict[str, float]:
    """Open the stores; return the seconds, and the memory that is resident before and after."""
    before, start = resident_mib(), time.perf_counter()
    cpu = time.process_time()
    partitions = [
        Partition(open_store(partition_path(folder, number)), number, SETTINGS) for number in range(SETTINGS.partitions)
    ]
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    found = {"open_s": took, "open_cpu_s": cpu, "before_mib": before, "after_mib": resident_mib()}
    for partition in partitions:
        assert partition.counters.events[SourceTopic.IMPRESSIONS] > 0
        partition.close()
    return found


def resident_mib() -> float:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, measured too")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        print(json.dumps(make(given.make, given.requests)))
        return
    if given.open:
        print(json.dumps(open_again(given.open)))
        return
    rows = []
    for name, checkout in {"this": HERE, **({"against": given.against.resolve()} if given.against else {})}.items():
        with tempfile.TemporaryDirectory(prefix="hstu-bench-") as folder:
            made = in_checkout(checkout, __file__, "--make", folder, "--requests", str(given.requests))
            found = in_checkout(checkout, __file__, "--open", folder)
        grown = found["after_mib"] - found["before_mib"]
        rows.append((name, found["open_s"], found["open_cpu_s"], made["resident_mib"], found["after_mib"], grown))
    print(f"{given.requests:,} open requests in {SETTINGS.partitions} partitions; {machine()}")
    heads = ("checkout", "opened in s", "CPU s", "MiB before the restart", "MiB after", "MiB by opening")
    table(heads, rows)
    save("restart", {"rows": [dict(zip(heads, each, strict=True)) for each in rows]}, given.save)


if __name__ == "__main__":
    main()
