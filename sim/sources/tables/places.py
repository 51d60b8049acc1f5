"""The files of a log: named one by one, by a folder, or by a glob."""

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from sim.errors import SimError

STDIN: Final = "-"
_NO_LOGS: Final = ("readme", "license", "licence", "changelog", "notice")
_PROSE: Final = (".md", ".rst", ".pdf", ".html")
_PARTITION: Final = re.compile(r"([^=/]+)=([^/]*)")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a log."""

    path: Path
    partition: dict[str, str] = field(default_factory=dict)
    """Columns that the names of its folders hold: dt=2024-01-31."""

    @property
    def is_stdin(self) -> bool:
        """Whether it is standard input."""
        return str(self.path) == STDIN


def files_of(log: Sequence[str]) -> list[SourceFile]:
    """Return the files of a log, those of a folder or a glob sorted by name; of several, those of 0 bytes are none.

    Raises:
        SimError: There is none, or one is named twice.
    """
    files = [file for name in log for file in _of_name(name)]
    paths = [file.path for file in files]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise SimError(f"{twice} is named twice, so its rows would count twice; name each file once.")
    return [file for file in files if not file.path.is_file() or file.path.stat().st_size] or files


def _of_name(name: str) -> Iterator[SourceFile]:
    path = Path(name)
    if name == STDIN or path.is_file():
        yield SourceFile(path)
    elif path.is_dir():
        yield from _of_folder(path)
    elif path.exists():  # a pipe or a device
        yield SourceFile(path)
    else:
        found = sorted(Path(match) for match in glob.glob(name, recursive=True))  # noqa: PTH207
        if not found:
            raise SimError(f"There is no file {name}; check the path.")
        for match in found:
            yield from _of_folder(match) if match.is_dir() else [SourceFile(match)]


def _of_folder(folder: Path) -> Iterator[SourceFile]:
    every = (path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    inside = sorted(path for path in every if not _is_prose(path))
    if not inside:
        raise SimError(f"The folder {folder} holds no files; check the path.")
    for path in inside:
        found = (_PARTITION.fullmatch(part) for part in path.relative_to(folder).parts[:-1])
        yield SourceFile(path, {match[1]: unquote(match[2]) for match in found if match})


def _is_prose(path: Path) -> bool:
    return path.suffix.lower() in _PROSE or path.stem.lower() in _NO_LOGS


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)
