"""One run of a trainer: order, learner, checkpoints, snapshots and metrics, driven by a shell that reads the records.

    records ─► Intake: one order ─► Learner: test, then train ─► checkpoints, snapshots, metrics.jsonl

The Faust shell (kafka.py) and the replay in one process drive it alike: `offer` what was read, `step` until it gives
False, and so on until `ended`. A run that was killed goes on from its newest checkpoint to the same bits: the last,
partial micro-batch waits for the end of time, and all others are cut by count in the global order. One thread at a time
uses a Training: a shell must not offer while it steps.

What a crash can fall between: records are read (lost, read again from the marks) ─ a step is taken (lost with the
process, taken again) ─ a line of metrics is written (removed at the resume, written again) ─ a checkpoint is renamed
(kept) ─ a snapshot is renamed (kept: it was the state at that step, and will be again).
"""

import fcntl
import logging
import os
import platform
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from xxhash import xxh3_128_digest

from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.learning.learner import Learner, StepReport
from model.storage import aliases
from model.storage.checkpoint import Checkpoint, read_newest, refuse_other_settings, write_checkpoint
from model.storage.snapshot import Manifest, write_snapshot
from model.trainer.inbox import Intake
from model.trainer.merge import Topic
from model.trainer.metrics_log import MetricsLog
from stream.example import Record

_NO_BITS: Final = frozenset(  # settings that may change between two sessions of one run
    ("name", "device", "checkpoint_s", "snapshot_s", "keep_snapshots", "idle_timeout_s", "metrics_port", "metrics_file")
)
_RATE_S: Final = 10.0  # over which tokens per second are averaged
_log: Final = logging.getLogger("hstu.train")


class Training:
    """A run that is under way; it resumes from the newest checkpoint in <data_dir>/train/<name>.

    Args:
        data_dir: holds checkpoints and snapshots of all trainers.
        settings: of the trainer.
        model: shape of its recommender.
        partitions: of topic `examples`.
        items_partitions: of topic `items`, 0 where it does not exist.
        now: wall time in seconds since 1970.

    Raises:
        ModelError: another process trains under this name, the checkpoint is of other settings, or none can be read.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: TrainSettings,
        model: ModelSettings,
        *,
        partitions: int,
        items_partitions: int = 0,
        now: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.directory = data_dir / "train" / settings.name
        self.snapshots = data_dir / "snapshots" / settings.name
        self._now = now
        self._lock = _lock(self.directory, settings.name)
        try:
            self.intake = Intake(partitions, items_partitions)
            self.learner = Learner(model, settings)
            self._examples_digest = bytes(16)
            self._event_ms = 0  # when the last example learnt became final
            self._parent = ""  # id of the last snapshot
            self._loss: float | None = None
            self.latest: StepReport | None = None
            self._bits = self._settings_that_matter(partitions)
            self._resume()
            file = Path(settings.metrics_file) if settings.metrics_file else self.directory / "metrics.jsonl"
            self._lines = MetricsLog(file, settings.name, self.learner.counts["steps"])
        except BaseException:
            os.close(self._lock)
            raise
        self._uncut = self._unsnapped = False  # something was learnt since the last of them
        self._failed = False
        self._cut_s = self._snap_s = now()
        self._rate: deque[tuple[float, int]] = deque([(self._cut_s, self.learner.counts["tokens"])])

    def _settings_that_matter(self, partitions: int) -> dict[str, Any]:
        model, train = self.learner.model.model_dump(mode="json"), self.settings.model_dump(mode="json")
        return {
            **{f"model.{key}": value for key, value in model.items()},
            **{f"train.{key}": value for key, value in train.items() if key not in _NO_BITS},
            "train.device": self.learner.weights.device.type,
            "stream.partitions": partitions,
        }

    def _resume(self) -> None:
        cut, complaints = read_newest(self.directory)
        for complaint in complaints:
            _log.warning("%s", complaint)
        if cut is None:
            return
        facts = cut.facts
        refuse_other_settings(facts["settings"], self._bits, self.directory)
        self.learner.load_state(cut.arrays)
        self.intake.restore(facts["marks"])
        self._examples_digest = bytes.fromhex(facts["examples_digest"])
        self._event_ms, self._parent, self._loss = facts["event_ms"], facts["parent"], facts["loss"]
        _log.info("Trainer %s goes on from step %d.", self.settings.name, self.learner.counts["steps"])

    def position(self, topic: Topic, partition: int) -> int:
        """Give the next offset wanted of a partition."""
        return self.intake.position(topic, partition)

    def offer(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """Take records of one partition in offset order; those below its position are dropped."""
        self.intake.offer(topic, partition, records)

    def ahead(self, topic: Topic, partition: int) -> int:
        """Give how many records of a partition wait for other partitions; a shell may pause it when they are many."""
        return self.intake.merge.ahead(topic, partition)

    def let_go(self, topic: Topic, partition: int) -> None:
        """Let a partition that was silent for long hold the others back no more; its next record takes it back."""
        self.intake.merge.let_go(topic, partition)

    def take_back(self, topic: Topic, partition: int) -> None:
        """Wait for a partition again."""
        self.intake.merge.take_back(topic, partition)

    def step(self) -> bool:
        """Learn one micro-batch if one is ready; False: records must come first, or it is all over.

        Raises:
            ModelError: training has diverged, or something cannot be written.
        """
        ready = self.intake.gather(self.settings.batch_examples, self._learn_items)
        if ready:
            self._learn()
        if self.ended:
            self._finish()
        else:
            self._on_time()
        return ready

    def _learn_items(self, records: Sequence[Any]) -> None:
        self.learner.learn_items(records)
        self._uncut = self._unsnapped = True

    def _learn(self) -> None:
        examples, messages = zip(*(placed.value for placed in self.intake.batch), strict=True)
        self._failed = True  # until all of it is done: half a step must not be kept
        before = self._counted()
        self._forget_rate(self._now())
        self._note(self.learner.step(examples))
        for message in messages:
            self._examples_digest = xxh3_128_digest(self._examples_digest + message)
        self.intake.batch.clear()
        self._failed = False
        self._uncut = self._unsnapped = True
        if before // self.settings.window_targets < self._counted() // self.settings.window_targets:
            self._lines.append(self._line())

    def _note(self, report: StepReport) -> None:
        self.latest = report
        self._event_ms = report.event_ms
        self._loss = report.loss if np.isfinite(report.loss) else None
        self._rate.append((self._now(), self.learner.counts["tokens"]))

    def _counted(self) -> int:
        return max(self.learner.metrics.targets, self.learner.metrics.rank_targets)

    def _on_time(self) -> None:
        now_s = self._now()
        if self._uncut and now_s - self._cut_s >= self.settings.checkpoint_s:
            self.checkpoint()
        if self._unsnapped and now_s - self._snap_s >= self.settings.snapshot_s:
            self.snapshot()

    def _finish(self) -> None:
        """Write down the end, once."""
        steps = self.learner.counts["steps"]
        if self._uncut and steps and self._lines.last_step < steps:
            self._lines.append(self._line())
        if self._unsnapped and steps:
            self.snapshot()
        if self._uncut:
            self.checkpoint()

    @property
    def ended(self) -> bool:
        """Tell whether every partition has reached the end of time and all of it is learnt."""
        return self.intake.ended

    def checkpoint(self) -> None:
        """Write down everything as it is now, so that a new process goes on from here to the same bits."""
        if self._failed:
            raise ModelError(f"Trainer {self.settings.name} failed within a step; go on from its last checkpoint.")
        facts = {
            "step": self.learner.counts["steps"],
            "settings": self._bits,
            "marks": self.intake.marks(),
            "examples_digest": self._examples_digest.hex(),
            "event_ms": self._event_ms,
            "loss": self._loss,
            "parent": self._parent,
        }
        write_checkpoint(self.directory, Checkpoint(self.learner.state(), facts))
        self._uncut, self._cut_s = False, self._now()

    def snapshot(self) -> Path:
        """Write a snapshot, move the alias `latest` to it, delete old ones, and give its folder."""
        arrays = self.learner.snapshot_arrays(self._event_ms)
        path = write_snapshot(self.snapshots, arrays=arrays, manifest=self._manifest())
        aliases.move(self.snapshots, aliases.LATEST, path.name)
        aliases.gc(self.snapshots, self.settings.keep_snapshots)
        self._parent = path.name
        self._unsnapped, self._snap_s = False, self._now()
        return path

    def _manifest(self) -> Manifest:
        learner = self.learner
        return Manifest(
            name=self.settings.name,
            parent=self._parent,
            created=self._now(),
            watermark_ms=self.intake.learnt_ms,
            offsets={topic: [mark["offset"] for mark in marks] for topic, marks in self.intake.marks().items()},
            step=learner.counts["steps"],
            examples=learner.counts["examples"],
            targets=learner.metrics.targets,
            rank_targets=learner.metrics.rank_targets,
            settings={"model": learner.model.model_dump(mode="json"), "train": self.settings.model_dump(mode="json")},
            metrics=learner.metrics.as_dict(),
            digests=self.digests,
            device=learner.weights.device.type,
            threads=self.settings.threads,
            versions={"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy")},
        )

    @property
    def digests(self) -> dict[str, str]:
        """Give what equal runs have equal: sequences (as workers say), examples in their order, model; in hex."""
        return {
            "sequences": self.intake.sequences_digest,
            "examples": self._examples_digest.hex(),
            "model": self.learner.digest(),
        }

    @property
    def report(self) -> dict[str, Any]:
        """Give counts and metrics of the run, and how this process gets on with reading, for JSON."""
        intake, merge = self.intake, self.intake.merge
        return {
            **self._learnt(),
            "tokens_per_s": self.tokens_per_s,
            "sequence_tokens": intake.tokens,
            "watermark_ms": intake.learnt_ms,
            "waiting": intake.waiting,
            "late": merge.late,
            "repeats": merge.repeats,
            "refused": intake.refused,
        }

    def _learnt(self) -> dict[str, Any]:
        """Give what equal runs have equal at the same step."""
        learner = self.learner
        return {
            "name": self.settings.name,
            "step": learner.counts["steps"],
            "examples": learner.counts["examples"],
            "tokens": learner.counts["tokens"],
            "targets": learner.metrics.targets,
            "rank_targets": learner.metrics.rank_targets,
            "event_ms": self._event_ms,
            "loss": self._loss,
            "items": len(learner.items),
            "withdrawn": int(learner.items.withdrawn.sum()),
            "features": len(learner.features),
            "collisions": learner.items.collisions + learner.features.collisions,
            **learner.metrics.as_dict(),
        }

    @property
    def tokens_per_s(self) -> float:
        """Tokens learnt per second of wall time, over the last ten seconds; 0 once they have passed in silence."""
        now_s = self._now()
        self._forget_rate(now_s)
        (start_s, start), (_, end) = self._rate[0], self._rate[-1]
        return (end - start) / (now_s - start_s) if now_s > start_s else 0.0

    def _forget_rate(self, now_s: float) -> None:
        """Drop the counts of more than ten seconds ago but for the last of them, which is the one to count from."""
        while len(self._rate) > 1 and self._rate[1][0] <= now_s - _RATE_S:
            self._rate.popleft()
        if len(self._rate) == 1:  # it held all the time since
            then_s, tokens = self._rate[0]
            self._rate[0] = max(then_s, now_s - _RATE_S), tokens

    def _line(self) -> dict[str, Any]:
        """Give a line of metrics; all but the first two is equal for equal runs."""
        return {"wall_s": self._now(), "tokens_per_s": self.tokens_per_s, **self._learnt()}

    def close(self) -> None:
        """Keep what was learnt, and let other processes train under this name."""
        try:
            if self._uncut and not self._failed:
                self.checkpoint()
        finally:
            os.close(self._lock)


def _lock(directory: Path, name: str) -> int:
    """Take the run for this process; the lock goes with it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ModelError(f"The folder {directory} cannot be used: {error.strerror}; is it writable?") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ModelError(f"Another process trains as {name} in {directory}; stop it, or give another --name.") from None
    return handle
