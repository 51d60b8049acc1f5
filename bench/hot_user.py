"""Events/s of a partition's core with and without one user who does as much as all others together, or more.

2,000 users see 20 slates of five a second, and click on three in five; a bot sees --slates more. A batch is a second of
event time, as a worker gets it that keeps up. The rate is that of all events, of a minute and of its last quarter: a
cost that grows with what the bot has done shows there. --against PATH measures another checkout too, in turns.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median

from partition_logs import START_MS, Batches, Log, in_checkout, second
from report import machine, save, table

from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.store.rocksdb import open_store

HERE = Path(__file__).parents[1]
USERS = [f"user-{n}" for n in range(2000)]


def logs(seconds: int, bot_slates: int) -> list[Log]:
    """Return a batch for each second."""
    rng, batches, made = random.Random(0), Batches(), []
    for n in range(seconds):
        at_ms = START_MS + 1000 * n
        pairs = [*second(rng, at_ms, USERS, 20), *second(rng, at_ms, ["bot"], bot_slates)]
        clicks = [clicked for _, clicked in pairs if clicked]
        made.append(batches.make([shown for shown, _ in pairs], clicks, at_ms + 1000))
    return made


def rates(seconds: int, bot_slates: int) -> dict[str, float]:
    """Return events/s of CPU time over all batches and over the last quarter of them."""
    taken: list[tuple[int, float]] = []
    settings = StreamSettings(partitions=1, lateness_s=1)
    with tempfile.TemporaryDirectory() as folder:
        partition = Partition(open_store(Path(folder) / "p0"), 0, settings)
        for batch in logs(seconds, bot_slates):
            start = time.process_time()
            for source, records in batch.items():
                partition.handle(source, records)
                if waiting := partition.outbox.unsent():
                    partition.outbox.sent(waiting[-1].number)
            taken.append((sum(map(len, batch.values())) - len(batch), time.process_time() - start))
        partition.close()
    return {name: _rate(part) for name, part in (("all", taken), ("late", taken[-seconds // 4 :]))}


def _rate(part: list[tuple[int, float]]) -> float:
    return sum(events for events, _ in part) / sum(took for _, took in part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, measured too")
    parser.add_argument("--seconds", type=int, default=60, help="of event time")
    parser.add_argument("--slates", type=int, default=100, help="of the bot a second")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(rates(given.seconds, given.one)))
        return
    checkouts = {"this": HERE, **({"against": given.against.resolve()} if given.against else {})}
    cases = [(name, bot) for name in checkouts for bot in (0, given.slates)]
    found: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(given.turns):
        for name, bot in cases:
            flags = ["--seconds", str(given.seconds), "--one", str(bot)]
            found[name, bot].append(in_checkout(checkouts[name], __file__, *flags))
    print(f"{given.seconds} s of event time, medians of {given.turns} turns, CPU time; {machine()}")
    best = {case: {part: median(turn[part] for turn in own) for part in own[0]} for case, own in found.items()}
    rows = [
        (name, bot, rate["all"], rate["all"] / best[name, 0]["all"], rate["late"], rate["late"] / best[name, 0]["late"])
        for (name, bot), rate in best.items()
    ]
    heads = ("checkout", "bot's slates/s", "events/s", "of without", "last quarter", "of without ")
    table(heads, rows)
    save("hot-user", {"rows": [dict(zip(heads, each, strict=True)) for each in rows]}, given.save)


if __name__ == "__main__":
    main()
