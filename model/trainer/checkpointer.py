"""What a run writes to disk: checkpoints, from which it continues to the same bits, and snapshots, for queries.

    <data_dir>/train/<name>/.lock         held by the process that trains under this name
    <data_dir>/train/<name>/cut-*         checkpoints (storage/checkpoint.py)
    <data_dir>/train/<name>/beginning     with what a run begins that has no checkpoint yet (storage/checkpoint.py)
    <data_dir>/train/<name>/farewell      how the last run ended (storage/checkpoint.py)
    <data_dir>/snapshots/<name>/          snapshots and their aliases (storage/snapshot.py, storage/aliases.py)
    <data_dir>/snapshots/<name>/deltas/   what changed between them (storage/delta_log.py)

All are written whenever their interval of wall time has passed, and all but deltas at the end of the run. Until then
checkpoints and snapshots are written beside the training, one at a time (storage/background.py).
"""

import json
import logging
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import Timeout

from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.learning.learner import Learner
from model.storage import aliases
from model.storage.background import Background
from model.storage.checkpoint import (
    Checkpoint,
    beginning,
    forget_beginning,
    free_name,
    read_newest,
    remove_unfinished,
    say_beginning,
    say_farewell,
    take_back_beginning,
    take_back_farewell,
    write_checkpoint,
)
from model.storage.delta_log import DeltaLog
from model.storage.locks import lock_file
from model.storage.promotion import promote
from model.storage.snapshot import Manifest, as_numpy, digests_known, write_snapshot
from model.trainer.inbox import Inbox
from model.trainer.report import RunReport
from stream.example import NO_KEY, TimeBounds

_CAP: Final = "train.max_items"
OF_ITS_OWN: Final = frozenset(  # what a run that begins with another's weights may have otherwise
    {"train.learning_rate", "train.embedding_rate_ratio", "stream.partitions"}
    | {_CAP, "train.item_ttl_d", "train.admit_after", "train.evict", "train.unknown_items"}
)
_log: Final = logging.getLogger("hstu.train")


class Schedule:
    """Says when something is due: `every_s` seconds after it was last done, if anything was learned since.

    Args:
        every_s: Seconds between two times that it is done.
        clock: A clock in seconds that never goes back.
    """

    def __init__(self, every_s: float, clock: Callable[[], float]) -> None:
        self.stale = False  # something was learned since it was last done
        self._hurried = False
        self._every_s, self._clock = every_s, clock
        self._last_s = clock()

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return self.stale and (self._hurried or self._clock() - self._last_s >= self._every_s)

    def hurry(self) -> None:
        """Have it done as soon as possible."""
        self._hurried = True

    def done(self) -> None:
        """Count from now on."""
        self.stale, self._hurried, self._last_s = False, False, self._clock()


class Checkpointer:
    """The checkpoints of one run; holds the run's lock until it is closed.

    Args:
        directory: Folder of the run.
        settings: Settings of the trainer.
        clock: A clock in seconds that never goes back.

    Raises:
        ModelError: Another process trains under this name, or the folder is not writable.
    """

    def __init__(self, directory: Path, settings: TrainSettings, clock: Callable[[], float]) -> None:
        self.schedule = Schedule(settings.checkpoint_s, clock)
        self._directory, self._name = directory, settings.name
        self._metrics_port = settings.metrics_port
        self._begun_before: tuple[bytes | None] | None = None  # what `beginning` held before this process wrote it
        self._writing = False  # a checkpoint beside the training, which may fail
        self._lock_path = directory / ".lock"
        self._lock = lock_file(self._lock_path)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise ModelError(
                f"Another process trains as {settings.name} in {directory}; stop it, or give another --name."
            ) from None
        except OSError as error:
            raise ModelError(f"The folder {directory} cannot be used: {error.strerror}; is it writable?") from error

    def newest(self, settings: Mapping[str, Any]) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, None if the run begins.

        Args:
            settings: The settings that decide the bits (deciding_settings).

        Raises:
            ModelError: Other settings made the checkpoint, its items exceed the cap, or none can be read.
        """
        remove_unfinished(self._directory)
        checkpoint, complaints = read_newest(self._directory)
        for complaint in complaints:
            _log.warning("%s", complaint)
        if checkpoint is not None:
            refuse_other_settings(checkpoint.facts["settings"], settings, self._directory)
            _refuse_small_cap(checkpoint, settings[_CAP], self._directory)
            _log.info("Trainer %s goes on from step %d.", self._name, checkpoint.facts["step"])
            before = checkpoint.facts["settings"].get(_CAP, 0)
            if before != settings[_CAP]:
                _log.info("%s is %d from here on; it was %d.", _CAP, settings[_CAP], before)
        return checkpoint

    @property
    def behind(self) -> bool:
        """Whether something was learned that no whole checkpoint has."""
        return self.schedule.stale or self._writing

    def begin_with(self, name: str, since_ms: int | None) -> None:
        """Write down with what the run begins, before it has a checkpoint.

        Raises:
            ModelError: The folder is not writable.
        """
        try:
            self._begun_before = (say_beginning(self._directory, name, since_ms),)
        except OSError as error:
            raise ModelError(f"The folder {self._directory} cannot be written to: {error.strerror}.") from error

    def begins_with(self) -> tuple[str, int | None] | None:
        """Return the name and the point with which a run began that was killed before its first checkpoint."""
        return beginning(self._directory)

    def of_another(self, name: str, settings: Mapping[str, Any]) -> Checkpoint:
        """Return the newest checkpoint of another trainer in the same data directory.

        Raises:
            ModelError: It has none that can be read, it was made with other settings than these, OF_ITS_OWN apart, or
                its items exceed the cap.
        """
        directory = self._directory.parent / name
        checkpoint, _ = read_newest(directory)
        if checkpoint is None:
            raise ModelError(
                f"There is no checkpoint of a trainer {name} in {directory}; give --weights-from the --name of one "
                "that has trained with this data directory, or --data-dir the one that has it. --since alone begins "
                "with no weights."
            )
        own = {key: settings[key] for key in OF_ITS_OWN}
        refuse_other_settings(checkpoint.facts["settings"] | own, settings, directory, inherited=True)
        _refuse_small_cap(checkpoint, settings[_CAP], directory)
        return checkpoint

    def way_on(self) -> str:
        """Return the sentence that says from where a run that has diverged can go on, and how."""
        checkpoint, _ = read_newest(self._directory)
        if checkpoint is None:
            return "There is no checkpoint yet: begin again under another --name."
        return (
            f"Nothing of this step is kept: the last good checkpoint is of step {checkpoint.facts['step']}. The same "
            f"rates would end here again; with lower ones `hstu train --name {free_name(self._directory)} "
            f"--weights-from {self._name}` goes on from there (docs/recovery.md)."
        )

    def write(self, learner: Learner, facts: dict[str, Any]) -> None:
        """Write a checkpoint."""
        write_checkpoint(self._directory, Checkpoint(learner.state(), facts))
        self._writing = False
        self.schedule.done()

    def begin(self, beside: Background, learner: Learner, facts: dict[str, Any]) -> None:
        """Begin to write a checkpoint of this moment, beside the training."""

        def write() -> str:
            return write_checkpoint(self._directory, Checkpoint(learner.state(), facts)).name

        def written(_: str) -> None:
            self._writing = False

        beside.begin("a checkpoint", write, written)
        self._writing = True
        self.schedule.done()

    def begun(self) -> None:
        """Take back how the last run ended: this one has not been refused."""
        with suppress(OSError):
            take_back_farewell(self._directory)
            forget_beginning(self._directory)

    def farewell(self, how: str) -> None:
        """Write down how the run ends, one of FAREWELLS."""
        with suppress(OSError):  # a full disk has been told of already
            say_farewell(self._directory, how, self._metrics_port)

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()

    def abandon(self) -> None:
        """Release the lock of a run that was refused; of one that had never begun, leave no folder."""
        with suppress(OSError):  # who waits for this lock meanwhile finds that its file is gone, and is refused
            if self._begun_before:
                take_back_beginning(self._directory, *self._begun_before)
            if list(self._directory.iterdir()) == [self._lock_path]:
                self._lock_path.unlink()
                self._directory.rmdir()
        self.close()


def deciding_settings(
    model: ModelSettings, train: TrainSettings, device: str, partitions: int, bounds: TimeBounds
) -> dict[str, Any]:
    """Return the settings that decide the bits of a run, by dotted name.

    Args:
        model: All of them decide.
        train: Those decide that are not marked MayChange.
        device: Kind of the device that train.device stands for here.
        partitions: Number of partitions of topic `examples`.
        bounds: How far records of `items` may move event time.
    """
    may_change = train.may_change()
    return {
        **{f"model.{key}": value for key, value in model.model_dump(mode="json").items()},
        **{f"train.{key}": value for key, value in train.model_dump(mode="json").items() if key not in may_change},
        "train.device": device,
        "stream.partitions": partitions,
        "stream.future_s": bounds.future_ms / 1000,
        "stream.replays": bounds.replays,
    }


def refuse_other_settings(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], where: Path, *, inherited: bool = False
) -> None:
    """Refuse to continue from a checkpoint with settings that would change the bits of the run.

    A setting that the checkpoint lacks is younger than it, and its default keeps the behaviour of before: it counts as
    that default. A setting of the checkpoint that may change now is passed over. One that this version does not have
    is refused whatever its value, since nobody here knows what it did. A cap of items may become another cap: it
    decides from this checkpoint on.

    Raises:
        ModelError: A setting differs; the sentence names it and both values.
    """
    defaults = deciding_settings(ModelSettings(), TrainSettings(), "cpu", 0, TimeBounds())
    for key in sorted({*stored, *wanted} - {f"train.{name}" for name in TrainSettings.may_change() - {"device"}}):
        if key not in wanted:
            raise ModelError(
                f"The checkpoint in {where} was made with {key} = {stored[key]}, a setting that this hstu-stream does "
                "not have; go on with the version that wrote it, or train under another --name."
            )
        before = stored.get(key, defaults[key])
        if before != wanted[key] and not (key == _CAP and before and wanted[key]):
            way = f", which --weights-from {where.name} lets begin with these weights" if key in OF_ITS_OWN else ""
            other = "weights go on" if inherited else f"or train under another --name{way}: a run goes on"
            raise ModelError(
                f"The checkpoint in {where} was made with {key} = {before}, but now it is {wanted[key]}. Set it back"
                f"{': ' if inherited else ', '}{other} with the settings that it was made with."
            )


def _refuse_small_cap(checkpoint: Checkpoint, most: int, where: Path) -> None:
    """Refuse to continue from a checkpoint with more items than the cap; 0 is none."""
    used = np.count_nonzero(checkpoint.arrays["items.keys"] != NO_KEY)
    if 0 < most < used:
        raise ModelError(
            f"{_CAP} = {most} is less than the {used} items in use in the checkpoint in {where}; set it to {used} or "
            "more."
        )


class SnapshotWriter:
    """The snapshots of one run, each the parent of the next.

    Args:
        directory: Folder of this trainer's snapshots.
        settings: Settings of the trainer.
        parent: Id of the last snapshot; empty before the first.
        now: Wall time in seconds since 1970.
        clock: A clock in seconds that never goes back.
    """

    def __init__(
        self,
        directory: Path,
        settings: TrainSettings,
        parent: str,
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.schedule = Schedule(settings.snapshot_s, clock)
        self.delta_schedule = Schedule(settings.delta_s, clock) if settings.delta_s else None
        self.parent = parent
        self._deltas = DeltaLog(directory, settings.delta_threshold)
        self._directory, self._settings, self._now = directory, settings, now

    def begin(self, beside: Background, learner: Learner, inbox: Inbox, report: RunReport) -> None:
        """Begin to write a snapshot of this moment, beside the training."""

        def write() -> str:
            before = digests_known.keys() | set()
            name = self.write(learner, inbox, report).name
            found = {key: digest for key, digest in digests_known.items() if key not in before}
            return json.dumps({"name": name, "digests": found})

        def written(text: str) -> None:
            told = json.loads(text)
            self.parent = told["name"]
            digests_known.update(told["digests"])

        beside.begin("a snapshot", write, written)
        self.schedule.done()

    def write(self, learner: Learner, inbox: Inbox, report: RunReport) -> Path:
        """Write a snapshot, move the alias `latest` to it, delete old ones, and return its folder."""
        arrays, manifest = as_numpy(learner.snapshot_arrays(report.event_ms)), self._manifest(learner, inbox, report)
        path = write_snapshot(self._directory, arrays=arrays, manifest=manifest)
        if self.delta_schedule:
            self._deltas.begin(path.name, arrays, manifest)
            self.delta_schedule.done()
        aliases.move(self._directory, aliases.LATEST, path.name)
        if self._settings.promote:
            self._promote(path.name)
        aliases.gc(self._directory, self._settings.keep_snapshots)
        self.parent = path.name
        self.schedule.done()
        return path

    def write_delta(self, learner: Learner, inbox: Inbox, report: RunReport) -> None:
        """Write what changed since the last snapshot or delta; a process writes a snapshot first."""
        if not self._deltas.begun:
            self.write(learner, inbox, report)
        elif self.delta_schedule:
            arrays = as_numpy(learner.snapshot_arrays(report.event_ms))
            self._deltas.append(arrays, self._manifest(learner, inbox, report))
            self.delta_schedule.done()

    def learned(self) -> None:
        """Note that there is something new to write."""
        self.schedule.stale = True
        if self.delta_schedule:
            self.delta_schedule.stale = True

    def _promote(self, snapshot_id: str) -> None:
        """Let the gate decide on a new snapshot; a refusal is logged, and stops nothing."""
        alias = self._settings.promote
        decision = promote(self._directory, alias, snapshot_id, self._now())
        if not decision.moved:
            _log.warning("%s is not the %s: %s.", snapshot_id, alias, decision.reason)

    def _manifest(self, learner: Learner, inbox: Inbox, report: RunReport) -> Manifest:
        settings = self._settings
        return Manifest(
            name=settings.name,
            parent=self.parent,
            created=self._now(),
            watermark_ms=inbox.learned_ms,
            event_ms=report.event_ms,
            offsets={topic: [mark["offset"] for mark in marks] for topic, marks in inbox.marks().items()},
            step=learner.counts["steps"],
            examples=learner.counts["examples"],
            targets=learner.metrics.targets,
            rank_targets=learner.metrics.rank_targets,
            settings={"model": learner.model.model_dump(mode="json"), "train": settings.model_dump(mode="json")},
            metrics=learner.metrics.as_dict(),
            hold=report.hold,
            digests=report.digests,
            device=learner.weights.device.type,
            threads=settings.threads,
            versions={"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy")},
        )
