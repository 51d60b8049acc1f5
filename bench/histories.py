"""Events/s of a partition's core by the length of its users' histories; with --against PATH, of another checkout too.

Users have seen slates of 100 items until they have --tokens tokens, all of which are kept. Then they see 20 slates of
five a second, and click on three in five; a batch is ten minutes of that. CPU time, checkouts and lengths in turns.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median

from partition_logs import START_MS, Batches, Log, in_checkout, second, slate
from report import machine, save, table

from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.store.rocksdb import open_store

HERE = Path(__file__).parents[1]
USERS = [f"user-{n}" for n in range(10)]
SHOWN, BATCH_S = 100, 600


def rate(tokens: int, batches: int) -> float:
    """Return events/s of CPU time."""
    rng, logs = random.Random(0), Batches()
    settings = StreamSettings(partitions=1, lateness_s=1, history_tokens=10**6)
    events, took = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        partition = Partition(open_store(Path(folder) / "p0"), 0, settings)
        at_ms = START_MS
        for number in range(tokens // SHOWN):
            items = [f"item-{rng.randrange(5000)}-{place}" for place in range(SHOWN)]
            at_ms += 1_000_000
            _take(partition, logs.make([slate(user, number, at_ms, items) for user in USERS], [], at_ms + 1000))
        at_ms += 1_000_000
        for _ in range(batches):
            pairs = [pair for n in range(BATCH_S) for pair in second(rng, at_ms + 1000 * n, USERS, 20)]
            at_ms += 1000 * BATCH_S
            batch = logs.make([shown for shown, _ in pairs], [clicked for _, clicked in pairs if clicked], at_ms)
            start = time.process_time()
            _take(partition, batch)
            took += time.process_time() - start
            events += sum(map(len, batch.values())) - len(batch)
        partition.close()
    return events / took


def _take(partition: Partition, batch: Log) -> None:
    for source, records in batch.items():
        partition.handle(source, records)
        if waiting := partition.outbox.unsent():
            partition.outbox.sent(waiting[-1].number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, measured too")
    parser.add_argument("--tokens", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(rate(given.one, given.batches)))
        return
    checkouts = {"this": HERE, **({"against": given.against.resolve()} if given.against else {})}
    cases = [(tokens, name) for tokens in given.tokens for name in checkouts]
    found: dict[tuple[int, str], list[float]] = {case: [] for case in cases}
    for _ in range(given.turns):
        for tokens, name in cases:
            flags = ["--batches", str(given.batches), "--one", str(tokens)]
            found[tokens, name].append(in_checkout(checkouts[name], __file__, *flags))
    print(f"{len(USERS)} users, medians of {given.turns} turns, CPU time; {machine()}")
    first = {name: median(found[given.tokens[0], name]) for name in checkouts}
    rows = [
        (tokens, name, min(own), median(own), max(own), median(own) / first[name])
        for (tokens, name), own in found.items()
    ]
    heads = ("tokens a user", "checkout", "events/s min", "median", "max", "of the shortest")
    table(heads, rows)
    save("histories", {"rows": [dict(zip(heads, each, strict=True)) for each in rows]}, given.save)


if __name__ == "__main__":
    main()
