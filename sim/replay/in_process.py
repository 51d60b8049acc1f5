"""The whole pipeline in one process, without Kafka: events, joiner, stores, examples, learner, snapshots.

    events ─► route by murmur2 ─► P × Partition.handle ─► outbox ─► Inbox.offer ─► Training.step …
                                                                  catalogue ─► Inbox.offer

The cores are those that the workers and the trainer run (in_process_join.py), and records are replayed ones. So a run
ends with the sequences, examples and model of a run over Kafka, to the bit, whatever the batches of events. The data
directory is as workers and a trainer leave it, and can be queried.

A run that was stopped does not continue: its stores and its trainer may have seen different events. `direct.json` marks
the folders of such a run; `restart` deletes marked folders, and never those of workers or a trainer.
"""

import fcntl
import shutil
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from model.options import check_lengths
from model.trainer.run import Training
from sim.config import Settings
from sim.errors import SimError
from sim.replay.in_process_join import InProcessJoin
from sim.sources.source import Source, SourceEvent, replay_events
from stream.join.partition import Partition

BATCH_EVENTS: Final = 1_000
_MARK: Final = "direct.json"


class DirectRun:
    """One run: its partitions, and the trainer `settings.train.name`.

    Args:
        settings: All settings.
        restart: Whether to delete what an earlier run of this kind has left.

    Raises:
        SimError: There are stores already, or a trainer of that name has begun.
        ModelError: An example may have more tokens than the model.
    """

    def __init__(self, settings: Settings, *, restart: bool = False) -> None:
        self.settings = settings
        stream, data_dir = self.settings.stream, self.settings.data_dir
        check_lengths(self.settings.model, stream.example_tokens)
        _claim(data_dir, self.settings.train.name, restart)
        self.training = Training(
            data_dir,
            self.settings.train,
            self.settings.model,
            partitions=stream.partitions,
            items_partitions=stream.partitions,
            now=time.time,
            bounds=stream.time_bounds,
        )
        self._joining = InProcessJoin(data_dir, stream, self.training.inbox.offer)
        self._stopping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._joining.close()
        self.training.close()

    def stop(self) -> None:
        """Make `run` end soon."""
        self._stopping = True

    def run(self, source: Source, progress: Callable[[int], None] = lambda done: None) -> bool:
        """Feed a source to its end; return False if it was stopped before."""
        events, done = replay_events(source, len(self.partitions)), 0
        while batch := list(islice(events, BATCH_EVENTS)):
            if self._stopping:
                return False
            self.feed(batch)
            done += sum(event.partition is None for event in batch)
            progress(done)
        if not self.training.ended:
            raise SimError(f"The log is over, but the learner waits for more: {self.training.report['waiting']}.")
        return True

    def feed(self, events: Iterable[SourceEvent]) -> None:
        """Join events and learn from what results; those of one topic and partition must come in order."""
        self._joining.feed(events)
        while self.training.step():
            if self._stopping:
                return

    @property
    def partitions(self) -> list[Partition]:
        """The partitions of the joiner."""
        return self._joining.partitions

    def late_labels(self) -> int:
        """Return the number of actions on items whose label was final."""
        return sum(partition.counters.late_labels for partition in self.partitions)

    def refused(self) -> dict[str, int]:
        """Return the number of dead-letters by reason."""
        return self._joining.refused()


def _claim(data_dir: Path, name: str, restart: bool) -> None:
    """Make the run's folders, empty and marked as its own.

    Raises:
        SimError: There is something already that may not be deleted.
    """
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
    """Return whether another process has this store open: RocksDB holds a POSIX lock on its file."""
    with path.open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
