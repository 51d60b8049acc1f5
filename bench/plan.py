"""What a stream of some size takes: bytes, bandwidth, cores, rows; the table of docs/scale.md.

python bench/plan.py. Bytes of events, examples and stores are measured here, by a run of the joiner over slates of
five and clicks (live_events.py); speeds and bytes a row are those of the pages that FIGURES names.
"""

import argparse
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from live_events import Stream
from report import machine, save, table

from sim.replay.in_process_join import InProcessJoin, LocalRecord
from sim.sources.source import SourceEvent, heartbeats
from stream.config import StreamSettings
from stream.example import Example, decode
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import EXAMPLES

SLATE, CLICKS = 5, 0.25  # items of a slate; clicks a slate
DAY_S, LOAD = 86_400, 0.5  # of what a part can do it is planned for half
RECORD_BYTES: Final = 12  # what a record of a batch has in Kafka beside key and value
FIGURES: Final = {
    "worker": (14_624, "events/s of a worker", "performance/worker.md"),
    "trainer": (61_777, "tokens/s of a core that trains, 20,000 items", "performance/learner.md"),
    "device": (1_032, "bytes a row on the device", "scale.md"),
    "host": (2_800, "bytes a row of a trainer on CPUs", "scale.md"),
    "snapshot": (828, "bytes a row of a snapshot", "performance/delta.md"),
    "topk": (10.7, "ms of a core to rank a million items", "performance/topk.md"),
}


class System(NamedTuple):
    """A stream: users, live items, events a second, tokens of a usual history."""

    name: str
    users: int
    items: int
    rate: int
    tokens: int


SYSTEMS: Final = (
    System("laptop", 10_000, 10_000, 20, 100),
    System("small company", 1_000_000, 1_000_000, 1_000, 100),
    System("large company", 50_000_000, 10_000_000, 50_000, 300),
    System("a billion rows", 1_000_000_000, 1_000_000_000, 5_000_000, 512),
)


class Bytes(NamedTuple):
    """Of an event in Kafka, of an example beside its tokens, of each of these, of a token in a store."""

    event: float
    example: float
    token: float
    stored: float


def events(seconds: int) -> Iterator[SourceEvent]:
    """Yield slates and clicks of 300 users, and the heartbeats by which all of them become examples."""
    stream, start_s = Stream(300, 10_000, SLATE, CLICKS, 0), 1_700_000_000
    for now_s in range(start_s, start_s + seconds):
        for topic, user, value in (*stream.slates(20, now_s), *stream.clicks(now_s)):
            yield SourceEvent(topic, user.encode(), value.encode(), 1000 * now_s)
    yield from heartbeats(END_OF_TIME_MS, StreamSettings().partitions)


def measure(seconds: int) -> Bytes:
    """Join a stream in which users come to have hundreds of tokens."""
    sizes: list[tuple[int, int]] = []  # tokens and bytes of each example

    def offer(topic: Literal["examples", "items"], partition: int, records: Sequence[LocalRecord]) -> None:
        for value in (record.value for record in records if topic == EXAMPLES and record.value):
            example = decode(value)
            if isinstance(example, Example):
                sizes.append((len(example.keys), len(value)))

    folder = Path(tempfile.mkdtemp(prefix="plan-"))
    try:
        join, stream, sent = InProcessJoin(folder, StreamSettings(), offer), events(seconds), list[int]()
        while batch := list(islice(stream, 1000)):
            join.feed(batch)
            sent += [RECORD_BYTES + len(event.key) + len(event.value or b"") for event in batch if event.key]
        for store in join._stores:
            store.flush()
        stored = sum(path.stat().st_size for path in folder.rglob("*.sst"))
        join.close()
    finally:
        shutil.rmtree(folder)
    found = np.array(sizes, dtype=float)
    token, example = np.polyfit(found[:, 0], found[:, 1], 1)
    tokens_an_event = (SLATE + CLICKS) / (1 + CLICKS)
    return Bytes(float(np.mean(sent)), float(example), float(token), stored / len(sent) / tokens_an_event)


def needs(system: System, size: Bytes) -> dict[str, float]:
    """Return what a system takes; each slate is its own example, as where users come seldom."""
    figures = {name: figure for name, (figure, _, _) in FIGURES.items()}
    examples = system.rate / (1 + CLICKS)
    return {
        "events to Kafka, MB/s": system.rate * size.event / 1e6,
        "events of a week in Kafka, a copy, GB": 7 * DAY_S * system.rate * size.event / 1e9,
        "examples to Kafka, MB/s": examples * (size.example + system.tokens * size.token) / 1e6,
        "workers": math.ceil(system.rate / (LOAD * figures["worker"])),
        "stores of all users, GB": system.users * system.tokens * size.stored / 1e9,
        "tokens to train on, thousands/s": examples * system.tokens / 1e3,
        "cores that train at the speed of one": math.ceil(examples * system.tokens / (LOAD * figures["trainer"])),
        "rows with moments, on devices, GB": system.items * figures["device"] / 1e9,
        "rows of a trainer on CPUs, GB": system.items * figures["host"] / 1e9,
        "a snapshot, GB": system.items * figures["snapshot"] / 1e9,
        "exact top-k, ms of a core": system.items / 1e6 * figures["topk"],
    }


def _text(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="length of the stream that is joined")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    size = measure(given.seconds)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}")
    print("bytes: " + ", ".join(f"{name} {value:.0f}" for name, value in size._asdict().items()))
    plans = {system.name: needs(system, size) for system in SYSTEMS}
    asked = [(what, *(getattr(system, what) for system in SYSTEMS)) for what in ("users", "items", "rate", "tokens")]
    rows = [(what, *(_text(plan[what]) for plan in plans.values())) for what in plans[SYSTEMS[0].name]]
    table(("", *plans), [*asked, *rows])
    save("plan", {"bytes": size._asdict(), "figures": FIGURES, "plans": plans}, given.save)


if __name__ == "__main__":
    main()
