"""The whole way in one process, without Kafka: events, joiner, stores, examples, learner, snapshots.

    events ─► route by murmur2 ─► P × Partition.handle ─► outbox ─► Training.offer ─► Training.step …
                                                                  catalogue ─► Training.offer

The cores are those that the workers and the trainer run, and what Kafka does in between is done by counters: a record's
offset is its number in its topic and partition. Time comes from events and heartbeats alone; nothing is ever idle or in
the future. So a run ends with the sequences, examples and model of a run over Kafka, to the bit, however the events are
cut into batches. What it leaves in the data directory is what workers and a trainer leave: it can be queried.

A run that was stopped does not continue: its stores and its trainer may have seen different events. `direct.json` in
a folder says that it is of such a run; `restart` deletes those, and never what workers or a trainer have made.
"""

import fcntl
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from model.training import Training
from sim.config import Settings
from sim.errors import SimError
from sim.outgoing import ITEMS, Event, Source, outgoing
from stream.ids import partition_of
from stream.partition import EXAMPLES, Partition
from stream.store import open_store, partition_path
from stream.watermark import Source as Topic

BATCH_EVENTS: Final = 1_000
_MARK: Final = "direct.json"
_TOPICS: Final = {topic.topic: topic for topic in Topic}


class Record(NamedTuple):
    """Quacks like a record of Kafka."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


class DirectRun:
    """One run: its partitions, and the trainer `settings.train.name`.

    Args:
        settings: of everything; idle timeouts and the check for future events count as off.
        restart: delete what an earlier run of this kind has left.

    Raises:
        SimError: there are stores already, or a trainer of that name has begun.
    """

    def __init__(self, settings: Settings, *, restart: bool = False) -> None:
        self.settings = _without_wall_time(settings)
        stream, data_dir = self.settings.stream, self.settings.data_dir
        _claim(data_dir, self.settings.train.name, restart)
        self.training = Training(
            data_dir,
            self.settings.train,
            self.settings.model,
            partitions=stream.partitions,
            items_partitions=stream.partitions,
            now=time.time,
        )
        self.partitions = [
            Partition(open_store(partition_path(data_dir, number)), number, stream)
            for number in range(stream.partitions)
        ]
        self._offsets: Counter[tuple[str, int]] = Counter()
        self._homes: dict[bytes, int] = {}
        self._stopping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for partition in self.partitions:
            partition.close()
        self.training.close()

    def stop(self) -> None:
        """Let `run` end soon."""
        self._stopping = True

    def run(self, source: Source, progress: Callable[[int], None] = lambda done: None) -> bool:
        """Feed a source to its end; False if it was stopped before."""
        events, done = outgoing(source, len(self.partitions)), 0
        while batch := list(islice(events, BATCH_EVENTS)):
            if self._stopping:
                return False
            self.feed(batch)
            done += sum(event.partition is None for event in batch)
            progress(done)
        if not self.training.ended:
            raise SimError(f"The log is over, but the learner waits for more: {self.training.report['waiting']}.")
        return True

    def feed(self, events: Iterable[Event]) -> None:
        """Let events go all the way; those of one topic and partition come in order."""
        routed: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
        for event in events:
            place = event.topic, self._home(event)
            routed[place].append(self._record(place, event.key, event.value, event.ts_ms))
        for (topic, number), records in routed.items():
            if topic == ITEMS:
                self.training.offer(ITEMS, number, records)
            else:
                self.partitions[number].handle(_TOPICS[topic], records)
        for partition in self.partitions:
            self._deliver(partition)
        while self.training.step():
            if self._stopping:
                return

    def _home(self, event: Event) -> int:
        if event.partition is not None:
            return event.partition
        key = event.key or b""
        if key not in self._homes:
            self._homes[key] = partition_of(key, len(self.partitions))
        return self._homes[key]

    def _record(self, place: tuple[str, int], key: bytes | None, value: bytes | None, ts_ms: int) -> Record:
        offset = self._offsets[place]
        self._offsets[place] = offset + 1
        return Record(offset, key, value, ts_ms)

    def _deliver(self, partition: Partition) -> None:
        outbox = partition.outbox()
        place = EXAMPLES, partition.number
        examples = [self._record(place, out.key, out.value, 0) for out in outbox if out.topic == EXAMPLES]
        if examples:
            self.training.offer(EXAMPLES, partition.number, examples)
        if outbox:
            partition.sent(outbox[-1].number)

    def refused(self) -> dict[str, int]:
        """Count the dead-letters by reason."""
        total: Counter[str] = Counter()
        for partition in self.partitions:
            total.update(partition.counters.dead_letters)
        return dict(total)


def _without_wall_time(settings: Settings) -> Settings:
    stream = settings.stream.model_copy(update={"idle_timeout_s": 0.0, "future_s": 0.0})
    train = settings.train.model_copy(update={"idle_timeout_s": 0.0})
    return settings.model_copy(update={"stream": stream, "train": train})


def _claim(data_dir: Path, name: str, restart: bool) -> None:
    """Make sure that the run begins with nothing, and mark what it makes as its own."""
    folders = data_dir / "store", data_dir / "train" / name
    there = [folder for folder in folders if folder.exists() and any(folder.iterdir())]
    if there and not restart:
        raise SimError(
            f"{there[0]} is there already, and --direct begins with nothing; "
            "delete an earlier run of --direct by --restart, or choose another --data-dir."
        )
    for folder in there:
        if not (folder / _MARK).exists():
            raise SimError(f"{folder} was not made by --direct, so --restart keeps it; choose another --data-dir.")
        if any(map(_is_locked, folder.glob("*/LOCK"))):
            raise SimError(f"{folder} is in use by another process; stop that first.")
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _MARK).write_bytes(msgspec.json.encode({"version": 1}))


def _is_locked(path: Path) -> bool:
    """Say whether another process has this store open: RocksDB holds such a lock on its file."""
    with path.open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
