"""The whole pipeline in one process, without Kafka: events, joiner, stores, examples, learner, snapshots.

    events ─► route by murmur2 ─► P × Partition.handle ─► outbox ─► Inbox.offer ─► Training.step …
                                                                  catalogue ─► Inbox.offer

The cores are those that the workers and the trainer run (in_process_join.py), and records are replayed ones. So a run
ends with the sequences, examples and model of a run over Kafka, to the bit, whatever the batches of events. The data
directory is as workers and a trainer leave it, and can be queried.

A run that was stopped does not continue: its stores and its trainer may have seen different events. `direct.json` marks
the folders of such a run; `restart` deletes marked folders, and never those of workers or a trainer.
"""

import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self

from model.config import TrainSettings
from model.options import check_lengths
from model.trainer.metrics_log import MetricsLog, refuse_in_the_way
from model.trainer.run import Training
from sim.config import Settings
from sim.errors import SimError
from sim.replay.direct_folders import claimed, refuse_inside
from sim.replay.in_process_join import InProcessJoin
from sim.sources.source import Source, SourceEvent, replay_events
from stream.join.partition import Partition

BATCH_EVENTS: Final = 1_000


class DirectRun:
    """One run: its partitions, and the trainer `settings.train.name`.

    Args:
        settings: All settings.
        restart: Whether to delete what an earlier run of this kind has left.

    Raises:
        SimError: There are stores already, or a trainer of that name has begun.
        ModelError: An example may have more tokens than the model, or the trainer cannot begin. Nothing has changed.
    """

    def __init__(self, settings: Settings, *, restart: bool = False) -> None:
        self.settings = settings
        check_lengths(settings.model, settings.stream.example_tokens)
        with claimed(settings.data_dir, settings.train.name, restart=restart) as make_folders:
            self._try()
            make_folders()
            self._open(settings.data_dir, settings.train)
        self._stopping = False

    def _try(self) -> None:
        """Begin in another place, so that what refuses the settings changes nothing here."""
        train = self.settings.train
        with TemporaryDirectory(prefix="hstu-direct-") as elsewhere:
            self._open(Path(elsewhere), train.model_copy(update={"metrics_file": ""}))
            self._close()
        if train.metrics_file:
            file = Path(train.metrics_file)
            data_dir = self.settings.data_dir
            refuse_inside(data_dir, train.name, file)
            refuse_in_the_way(file, (data_dir / "snapshots" / train.name, data_dir / "train" / train.name))
            MetricsLog(file, train.name, 0).check_writable()

    def _open(self, data_dir: Path, train: TrainSettings) -> None:
        stream = self.settings.stream
        self.training = Training(
            data_dir,
            train,
            self.settings.model,
            partitions=stream.partitions,
            items_partitions=stream.partitions,
            now=time.time,
            bounds=stream.time_bounds,
            beside=False,  # the stores' threads are in this process
        )
        try:
            self._joining = InProcessJoin(data_dir, stream, self.training.inbox.offer)
        except BaseException:
            self.training.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
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
        if self._stopping:
            return False
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
