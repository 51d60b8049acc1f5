"""One run of a trainer: takes micro-batches out of the inbox, lets the learner test and train, and writes what is due.

    records ─► Inbox: one order ─► Learner: test, then train ─► checkpoints, snapshots, metrics.jsonl

The Faust shell (kafka.py) and the replay in one process drive it alike: `inbox.offer` what was read, `step` until it
returns False, and so on until `ended`. A run that was killed continues from its newest checkpoint to the same bits: the
last, partial micro-batch waits for the end of time, and all others are cut by count in the global order. One thread at
a time uses a Training: a shell must not offer while it steps.

What a crash can fall between: records are read (lost, read again from the marks) ─ a step is taken (lost with the
process, taken again) ─ a line of metrics is written (removed at the resume, written again) ─ a checkpoint is renamed
(kept) ─ a snapshot is renamed (kept: it was the state at that step, and will be again). A run that begins with the
weights of another has its first checkpoint before it is made, so that it goes on with them whenever it is killed.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from model.config import ModelSettings, TrainSettings
from model.distributed.ranks import ALONE, Ranks
from model.drift.rate_boost import BOOSTS
from model.drift.watch import Alarm
from model.errors import DivergedError, ModelError
from model.learning.learner import Learner
from model.learning.on_ranks import LeadingLearner
from model.storage.background import POSSIBLE, Background
from model.storage.checkpoint import free_name
from model.storage.snapshot import list_snapshots
from model.trainer.checkpointer import Checkpointer, SnapshotWriter, deciding_settings
from model.trainer.inbox import Inbox
from model.trainer.merge import Naming
from model.trainer.metrics_log import DEFAULT_NAME, MetricsLog, refuse_in_the_way
from model.trainer.report import RunReport
from stream.example import DEFAULT_BOUNDS, TimeBounds

_log: Final = logging.getLogger("hstu.train")


class Origin(NamedTuple):
    """Another trainer whose weights a new run goes on with, or a point in time at which it begins with none.

    The other's examples need not be there any more, or may be of another log: the run reads `examples` from the
    beginning, and passes over what became final before `since_ms`.
    """

    name: str  # empty: begin with no weights
    since_ms: int | None = None  # None: after the last example that the other trainer was trained on


class Training:
    """A run, begun or continued from the newest checkpoint in <data_dir>/train/<name>.

    Args:
        data_dir: Folder of the checkpoints and snapshots of all trainers.
        settings: Settings of the trainer.
        model: Shape of its recommender.
        partitions: Number of partitions of topic `examples`.
        items_partitions: Number of partitions of topic `items`, 0 where it does not exist.
        topic_prefix: Of the topics' names, for refusals.
        now: Wall time in seconds since 1970, which figures and snapshots are stamped with.
        clock: A clock in seconds that never goes back, by which intervals are measured.
        bounds: How far records of `items` may move event time.
        origin: Whose weights a run that begins goes on with; None: it begins with none. They are its first checkpoint.
        beside: Whether what is due is written beside the training, where that is possible.
        ranks: The processes that train together; this one is rank 0, and the others follow (learning/on_ranks.py).

    Raises:
        ModelError: Another process trains under this name, the checkpoint is of other settings, none can be read, or
            the first one cannot be written.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: TrainSettings,
        model: ModelSettings,
        *,
        partitions: int,
        items_partitions: int = 0,
        topic_prefix: str = "",
        now: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        bounds: TimeBounds = DEFAULT_BOUNDS,
        origin: Origin | None = None,
        beside: bool = True,
        ranks: Ranks = ALONE,
    ) -> None:
        self.settings, self._ranks = settings, ranks
        self._failed = False  # within a step, so that half of it is in the learner
        self._diverged = False
        self.directory = data_dir / "train" / settings.name
        self._checkpoints = Checkpointer(self.directory, settings, clock)
        try:
            naming = Naming(topic_prefix, settings.name, partial(free_name, self.directory))
            self.inbox = Inbox(partitions, items_partitions, bounds, naming)
            self.learner = LeadingLearner(model, settings, ranks) if ranks.count > 1 else Learner(model, settings)
            self._deciding = deciding_settings(model, settings, self.learner.weights.device.type, partitions, bounds)
            facts = self._resume(origin)
            inherited = self._begin(origin) if facts is None else None
            facts = facts or inherited
            self._report = RunReport(settings.name, self.learner, self.inbox, now, clock, facts)
            parent = facts.get("parent", "") if facts else ""
            self._snapshots = SnapshotWriter(data_dir / "snapshots" / settings.name, settings, parent, now, clock)
            file = Path(settings.metrics_file) if settings.metrics_file else self.directory / DEFAULT_NAME
            refuse_in_the_way(file, (self.directory, data_dir / "snapshots" / settings.name))
            steps = self.learner.counts["steps"]
            self._first_step = ((facts or {}).get("weights_from") or {"step": 0})["step"]  # of what it began with
            self._lines = MetricsLog(file, settings.name, steps if steps > self._first_step else 0)
            snapshots = data_dir / "snapshots" / settings.name
            if facts and steps > self._first_step and not (facts["published"] and self._is_published(snapshots)):
                self._snapshots.learned()  # by the process before
            if settings.metrics_file:
                self._lines.check_writable()
            if inherited:
                self._keep_inherited(inherited)
            self._checkpoints.begun()
        except BaseException:
            self._checkpoints.abandon()
            raise
        alone_on_cpu = ranks.count == 1 and self.learner.weights.device.type == "cpu"  # neither CUDA nor ranks fork
        beside = beside and POSSIBLE and alone_on_cpu
        self._beside = Background() if beside and not settings.delta_s else None  # deltas need what was published here
        self._snapshot_is_next = False
        self._complained: set[str] = set()  # features of the catalogue

    def _resume(self, origin: Origin | None) -> dict[str, Any] | None:
        """Load the newest checkpoint; return its facts, None if there is none."""
        checkpoint = self._checkpoints.newest(self._deciding)
        if checkpoint is None:
            return None
        inherited = checkpoint.facts.get("weights_from")
        if origin and (inherited is None or inherited["name"] != origin.name):
            raise ModelError(
                f"Trainer {self.settings.name} has begun already and goes on with its own weights; leave "
                "--weights-from and --since out, or give them with a new --name."
            )
        if origin and inherited and origin.since_ms not in (None, inherited["since_ms"]):
            raise ModelError(
                f"Trainer {self.settings.name} has begun already, with --since {inherited['since_ms']}; leave --since "
                "out, or give another with a new --name."
            )
        self.learner.load_state(checkpoint.arrays)
        self.inbox.restore(checkpoint.facts["marks"])
        if inherited:
            self._pass_over(inherited)
        return checkpoint.facts

    def _begin(self, origin: Origin | None) -> dict[str, Any] | None:
        """Load the weights that a new run begins with, and return their trainer's facts as it has them.

        Where a run was killed before its first checkpoint, it begins as it did then; None: with nothing, at any time.
        """
        if origin is None:
            begun = self._checkpoints.begins_with()
            if begun is None:
                return None
            origin = Origin(*begun)
        self._checkpoints.begin_with(*origin)
        facts: dict[str, Any] = {}
        if origin.name:
            checkpoint = self._checkpoints.of_another(origin.name, self._deciding)
            facts = checkpoint.facts
            self.learner.load_state(checkpoint.arrays)
        since_ms = facts["event_ms"] + 1 if origin.since_ms is None else origin.since_ms
        weights_from = {
            "name": origin.name,
            "step": facts.get("step", 0),
            "event_ms": facts.get("event_ms", since_ms),
            "since_ms": since_ms,
        }
        self._pass_over(weights_from)
        return facts | {"weights_from": weights_from}

    def _pass_over(self, weights_from: Mapping[str, Any]) -> None:
        """Set what is passed over; users whom the weights have learned and who were forgotten since are not."""
        self.inbox.since_ms, self.inbox.learned_before_ms = weights_from["since_ms"], weights_from["event_ms"]

    def _keep_inherited(self, facts: Mapping[str, Any]) -> None:
        """Make what the run begins with its first checkpoint, from which every later start goes on."""
        self._checkpoints.write(self.learner, self._facts())
        origin = facts["weights_from"]
        with_what = f"the weights of {origin['name']} at step {origin['step']}" if origin["name"] else "no weights"
        _log.info(
            "Trainer %s goes on with %s; it passes over examples final before %d.",
            *(self.settings.name, with_what, origin["since_ms"]),
        )

    def _is_published(self, snapshots: Path) -> bool:
        """Return whether a snapshot holds the model as it is; titles of items aside, which decide nothing."""
        model = self.learner.digest()
        return any(snapshot.digests.get("model") == model for snapshot in list_snapshots(snapshots))

    @property
    def ended(self) -> bool:
        """Whether every partition has reached the end of time and all of it is trained on."""
        return self.inbox.ended

    @property
    def report(self) -> dict[str, Any]:
        """Counts and metrics of the run, and how far this process has read, for JSON."""
        return self._report.as_dict()

    @property
    def digests(self) -> dict[str, str]:
        """What equal runs have equal: digests of sequences, examples and model, in hex."""
        return self._report.digests

    def step(self) -> bool:
        """Test and train on one micro-batch if one is ready; False: records must come first, or it is all over.

        Raises:
            DivergedError: Training has diverged; the sentence names the last good checkpoint and the way on from it.
            ModelError: Something cannot be written.
        """
        ready = self.inbox.gather(self.settings.batch_examples, self._learn_items)
        if ready:
            self._learn()
        else:
            self._ranks.beat()
        if self.ended:
            self._finish()
        else:
            self._write_what_is_due()
        return ready

    def _learn_items(self, records: Sequence[Any]) -> None:
        self.learner.learn_items(records)
        self._learned()

    def _learned(self) -> None:
        self._checkpoints.schedule.stale = True
        self._snapshots.learned()

    def _learn(self) -> None:
        examples, messages = zip(*(placed.value for placed in self.inbox.batch), strict=True)
        self._failed = True  # until all of it is done: half a step must not be kept
        before, recovering = self._report.targets, self.learner.drift.recovery.waiting
        self._report.rate.trim()  # a silence before this step does not count
        try:
            taken = self.learner.step(examples)
        except DivergedError as error:
            self._diverged = True
            self._wait()  # for the checkpoint that is being written
            raise DivergedError(f"{error} {self._checkpoints.way_on()}") from error
        self._lines.begin()
        self._report.note(taken, messages)
        self.inbox.batch.clear()
        self._failed = False
        self._learned()
        window = self.settings.window_targets
        if taken.alarms or _windows(before, window) < _windows(self._report.targets, window):
            self._lines.append(self._report.line(taken.alarms))
        self._act_on(taken.alarms, recovering)

    def _act_on(self, alarms: Sequence[Alarm], recovering: bool) -> None:
        """Log what has drifted, what follows from it, and that a model that was recovering has recovered."""
        for alarm in alarms:
            _log.warning(
                "Drift: %s of trainer %s has risen to %.4g, at target %d.",
                *(alarm.signal, self.settings.name, alarm.value, alarm.targets),
            )
        if alarms and self.settings.drift_snapshot:
            self._snapshots.schedule.hurry()
        if self.learner.boost.left and any(alarm.signal == BOOSTS for alarm in alarms):
            ratio = self.settings.drift_boost
            _log.warning("It learns at %g times its rates for %d micro-batches.", ratio, self.learner.boost.left)
        if recovering and not self.learner.drift.recovery.waiting:
            _log.warning("Trainer %s has recovered from drift, at target %d.", self.settings.name, self._report.targets)

    def _write_what_is_due(self) -> None:
        snapshots = self._snapshots
        if self._beside is None:
            if self._checkpoints.schedule.due:
                self.checkpoint()
            if snapshots.schedule.due:
                self.snapshot()
        else:
            self._begin_what_is_due(self._beside)
        if snapshots.delta_schedule and snapshots.delta_schedule.due:
            snapshots.write_delta(self.learner, self.inbox, self._report)

    def _begin_what_is_due(self, beside: Background) -> None:
        """Begin to write a checkpoint or a snapshot; where both are always due they take turns."""
        beside.note()
        if beside.busy:
            return
        snapshot = self._snapshots.schedule.due
        if self._checkpoints.schedule.due and not (snapshot and self._snapshot_is_next):
            self._checkpoints.begin(beside, self.learner, self._facts())
            self._snapshot_is_next = True
        elif snapshot:
            self._complain()
            self._snapshots.begin(beside, self.learner, self.inbox, self._report)
            self._snapshot_is_next = False

    def _wait(self) -> None:
        """Wait for what is being written beside the training."""
        if self._beside is not None:
            self._beside.wait()

    def _finish(self) -> None:
        """Write the last line, snapshot and checkpoint, once."""
        self._wait()
        steps = self.learner.counts["steps"]
        if steps > self._first_step and self._lines.last_step < steps:
            self._lines.append(self._report.line())
        if self._snapshots.schedule.stale and steps:
            self.snapshot()
        if self._checkpoints.schedule.stale:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write everything down as it is now, so that a new process continues from here to the same bits."""
        self._wait()
        self._checkpoints.write(self.learner, self._facts())

    def _facts(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside arrays."""
        if self._failed:
            raise ModelError(f"Trainer {self.settings.name} failed within a step; go on from its last checkpoint.")
        return {
            "step": self.learner.counts["steps"],
            "settings": self._deciding,
            "marks": self.inbox.marks(),
            **self._report.facts(),
            "parent": self._snapshots.parent,
            "published": not self._snapshots.schedule.stale,
        }

    def snapshot(self) -> Path:
        """Write a snapshot, move the alias `latest` to it, delete old ones, and return its folder."""
        self._wait()
        self._complain()
        return self._snapshots.write(self.learner, self.inbox, self._report)

    def _complain(self) -> None:
        """Log once about each feature of the catalogue that does not count."""
        found = self.learner.index.item_features.complaints()
        for feature in found.keys() - self._complained:
            _log.warning("%s", found[feature])
        self._complained |= found.keys()

    def close(self) -> None:
        """Keep what was learned, and let other processes train under this name."""
        try:
            try:
                self._wait()
            except ModelError as error:
                _log.warning("%s", error)
            if not self._failed:
                if self._checkpoints.behind:  # also by what was being written beside, and has failed
                    self.checkpoint()
                self._ranks.end()
                self._checkpoints.farewell("ended" if self.ended else "stopped")
            elif self._diverged:
                self._checkpoints.farewell("diverged")
        finally:
            self._checkpoints.close()


def _windows(targets: int, window: int) -> int:
    """Return how many lines metrics.jsonl should have: one a window, and of the first one at a 16th, 8th, 4th, half."""
    early = (16 * min(targets, window - 1) // window).bit_length()  # 0 to 4
    return early + targets // window
