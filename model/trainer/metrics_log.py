"""metrics.jsonl: one JSON line for every window of targets, so that a run can be plotted while it goes on.

Lines of several trainers may stand in one file; each has the trainer's name and its step. A trainer that goes on from a
checkpoint removes its own lines of later steps, which it is about to write again, and a line that a crash cut off. That
replaces the file, so whoever writes holds the lock beside it: a line that another appends meanwhile would be lost.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.errors import ModelError


class MetricsLog:
    """The lines of one trainer.

    Args:
        path: of the file; made when the first line is written.
        name: of the trainer.
        step: from which it goes on, 0 at first; own lines after it are removed.
    """

    def __init__(self, path: Path, name: str, step: int) -> None:
        self.path = path
        self.last_step = -1  # of this trainer's last line
        self._name = name
        try:
            if path.exists():
                with self._alone():
                    self._rewind(step)
        except OSError as error:
            raise self._unwritable(error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other trainer writes, and let none."""
        with self.path.with_name(f".{self.path.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _rewind(self, step: int) -> None:
        old = self.path.read_bytes()
        kept = b"".join(line for line in old.splitlines(keepends=True) if self._stays(line, step))
        if kept == old:
            return
        aside = self.path.with_name(f".{self.path.name}.part")
        with aside.open("wb") as file:
            file.write(kept)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)

    def _stays(self, line: bytes, step: int) -> bool:
        if not line.endswith(b"\n"):
            return False
        try:
            entry = json.loads(line)
            own = entry["name"] == self._name
            if own and entry["step"] <= step:
                self.last_step = entry["step"]
            return not own or entry["step"] <= step
        except (ValueError, KeyError, TypeError):
            return True  # of somebody else

    def append(self, entry: dict[str, Any]) -> None:
        """Write one line; it has "name" and "step" among its keys."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone(), self.path.open("ab") as file:
                file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise self._unwritable(error) from error
        self.last_step = entry["step"]

    def _unwritable(self, error: OSError) -> ModelError:
        return ModelError(
            f"The metrics file {self.path} cannot be written: {error.strerror or error}; make room, or name another by "
            "train.metrics_file."
        )
