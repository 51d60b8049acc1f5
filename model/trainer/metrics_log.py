"""metrics.jsonl: one JSON line for every window of targets, so that a run can be plotted while it runs.

Several trainers may write to one file (train.metrics_file); each line has the trainer's name and its step. A trainer
that continues from a checkpoint removes its own lines of later steps, and a line that a crash left incomplete, once it
has learned: one that is refused takes none out. That replaces the file, so every writer holds the lock beside it:
otherwise a line that another trainer appends meanwhile would be lost.
"""

import errno
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, Final

from model.errors import ModelError
from model.storage.durable import replace_file
from model.storage.locks import lock_file

DEFAULT_NAME: Final = "metrics.jsonl"  # in the trainer's folder
_BEGINNING: Final = b'{"wall_s": '  # of a line (report.py)
_ROOM_BYTES: Final = 1 << 18  # more than a line has
_NO_FILES: Final = ("/proc/", "/dev/fd/", "/dev/std")  # what is open already, which would be replaced under its owner


class MetricsLog:
    """The lines of one trainer.

    Args:
        path: The file; made when the first line is written.
        name: Name of the trainer.
        step: Step from which the trainer continues, 0 at first; `begin` removes its own lines of later ones.

    Raises:
        ModelError: There is something that is no file of metrics.
    """

    def __init__(self, path: Path, name: str, step: int) -> None:
        self.path = path
        self.last_step = -1  # of this trainer's last line
        self._name, self._step = name, step
        self._begun = False  # and its own later lines are gone
        if not path.name:
            raise ModelError(f"The metrics file {str(path)!r} is no file; name one, such as metrics.jsonl.")
        try:
            self.path = Path(os.path.realpath(path))  # a link stays one, and who follows it has the same lock
            if _is_open_already(path) or (self.path.exists() and not self.path.is_file()):
                raise ModelError(f"The metrics file {path} is no file; name one by train.metrics_file (--metrics).")
            _check_text(path)
            self._lock = lock_file(self.path.with_name(f".{self.path.name}.lock"))
            if self.path.exists():
                with self._lock:
                    self._kept(self.path.read_bytes())
        except OSError as error:
            raise self._unwritable(error) from error

    def _kept(self, old: bytes) -> bytes:
        """Return the file without the lines that the trainer is to write again, and see which is its last."""
        lines = old.splitlines(keepends=True)
        if lines and not any(map(_is_of_trainer, lines)):
            raise ModelError(
                f"The metrics file {self.path} is there and holds no metrics, which would be appended to it; name "
                "another by train.metrics_file (--metrics)."
            )
        return b"".join(line for line in lines if self._stays(line))

    def _rewind(self) -> None:
        old = self.path.read_bytes()
        if (kept := self._kept(old)) != old:
            replace_file(self.path, kept, keeps_mode=True)

    def _stays(self, line: bytes) -> bool:
        try:
            entry = json.loads(line)
            own = entry["name"] == self._name
            if own and entry["step"] <= self._step:
                self.last_step = entry["step"]
            return not own or entry["step"] <= self._step
        except (ValueError, KeyError, TypeError, RecursionError):
            cut = line.startswith(_BEGINNING) or (not line.endswith(b"\n") and _BEGINNING.startswith(line))
            return not cut  # what a crash has cut goes, what is no line of any trainer stays

    def check_writable(self) -> None:
        """Check that lines can be appended, and removed again; a file that is not there is not made, but its folder is.

        Raises:
            ModelError: They cannot.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                old = self.path.read_bytes() if self.path.exists() else None
                with tempfile.TemporaryFile(dir=self.path.parent) as room:
                    room.write((old or b"") + bytes(_ROOM_BYTES))
                    room.flush()
                    os.fsync(room.fileno())
                replace_file(self.path, old or b"", keeps_mode=True)
                with self.path.open("a+b"):
                    pass  # it is open to this process
                if old is None:
                    self.path.unlink()
        except OSError as error:
            raise self._unwritable(error) from error

    def begin(self) -> None:
        """Remove the lines that the trainer is to write again, the first time.

        Raises:
            ModelError: The file cannot be written.
        """
        if self._begun:
            return
        try:
            if self.path.exists():
                with self._lock:
                    self._rewind()
        except OSError as error:
            raise self._unwritable(error) from error
        self._begun = True

    def append(self, entry: dict[str, Any]) -> None:
        """Write one line, after `begin`; "name" and "step" must be among its keys.

        Raises:
            ModelError: The file cannot be written.
        """
        self.begin()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, self.path.open("a+b", buffering=0) as file:
                _append(file, json.dumps(entry, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise self._unwritable(error) from error
        self.last_step = entry["step"]

    def _unwritable(self, error: OSError) -> ModelError:
        way_on = "make room, or name another" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "name another"
        return ModelError(
            f"The metrics file {self.path} cannot be written: {error.strerror or error}; {way_on} by "
            "train.metrics_file (--metrics of hstu replay)."
        )


def refuse_in_the_way(file: Path, folders: Iterable[Path]) -> None:
    """Refuse a metrics file in the place of a folder that a trainer makes, of one above it, or of what it keeps there.

    Raises:
        ModelError: It is.
    """
    target = Path(os.path.realpath(file))
    for folder in folders:
        whole = Path(os.path.realpath(folder))
        within = whole in target.parents and target != whole / DEFAULT_NAME
        if within or target == whole or target in whole.parents:
            where = f"within the folder {folder}" if within else f"where the folder {folder} goes"
            raise ModelError(
                f"The metrics file {file} would be {where}; name another by train.metrics_file (--metrics)."
            )


def _append(file: FileIO, line: bytes) -> None:
    """Write a line after what is whole; of one that has no room nothing stays.

    Raises:
        OSError: It cannot be written.
    """
    end = file.seek(0, os.SEEK_END)
    if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
        line = b"\n" + line  # a crash cut the last one
    try:
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        file.truncate(end)
        raise


def _is_open_already(path: Path) -> bool:
    """Return whether a path leads to what a shell has opened for this process, by a link perhaps."""
    names = os.path.normpath(Path.cwd() / path).replace("//", "/"), os.path.realpath(path)
    if any(name.startswith(_NO_FILES) for name in names):
        return True
    with suppress(OSError):
        return any(os.path.samestat(path.stat(), os.fstat(handle)) for handle in (0, 1, 2))
    return False


def _check_text(path: Path) -> None:
    """Refuse a name that no snapshot could say among its settings."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ModelError(f"The name of the metrics file {str(path)!r} is not UTF-8; name another.") from None


def _is_of_trainer(line: bytes) -> bool:
    """Return whether a line is one that a trainer wrote, perhaps cut off by a crash."""
    if not line.endswith(b"\n"):
        return line.startswith(_BEGINNING) or _BEGINNING.startswith(line)
    try:
        return {"name", "step"} <= set(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return False
