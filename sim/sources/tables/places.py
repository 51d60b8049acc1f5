"""The files of a log: named one by one, by a folder, by a glob, or in a zip archive, which is read as a folder is."""

import glob
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Final
from urllib.parse import unquote
from zipfile import BadZipFile, ZipFile

from sim.errors import SimError
from sim.sources.tables.plain_text import PIPED
from sim.sources.tables.scratch import refusing_full

STDIN: Final = "-"
_NO_LOGS: Final = ("readme", "license", "licence", "changelog", "notice")
_PROSE: Final = (".md", ".rst", ".pdf", ".html")
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")  # the second begins an archive without files
_OFFICE: Final = "[Content_Types].xml"
_LAKES: Final = {"_delta_log": "Delta Lake", "metadata/*.metadata.json": "Iceberg", ".hoodie": "Hudi"}
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
_COPY: Final = re.compile(r"(\.(gz|bz2|zst|xz|zip|bak|orig|swp)|~)+$", re.IGNORECASE)
_PARTITION: Final = re.compile(r"([^=/]+)=([^/]*)")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a log."""

    path: Path
    partition: dict[str, str | None] = field(default_factory=dict)
    """Columns that the names of its folders hold: dt=2024-01-31; Hive's name for null is None."""
    member: str = ""
    """Its name in the zip archive at `path`; empty for a file of its own."""

    @property
    def name(self) -> str:
        """Its path, for people."""
        return PIPED if self.is_stdin else f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def last_name(self) -> str:
        """Its name without folders."""
        return PurePath(self.member or self.path).name

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
    paths = [file.name for file in files]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise SimError(f"{twice} is named twice, so its rows would count twice; name each file once.")
    _refuse_copies(paths)
    return [file for file in files if not file.path.is_file() or file.path.stat().st_size] or files


def _refuse_copies(names: Sequence[str]) -> None:
    """Refuse a file beside which its packed form, or a copy that an editor has made, is read as well."""
    of: dict[str, str] = {}
    for name in names:
        plain = _COPY.sub("", name)
        if (other := of.setdefault(plain, name)) != name:
            raise SimError(
                f"{other} and {name} are by their names one file twice, so that its rows would count twice; remove or "
                "name one of them."
            )


def _of_name(name: str) -> Iterator[SourceFile]:
    path = Path(name)
    if name != STDIN and path.exists():
        _refuse_parts_of_lake([path])
    if name == STDIN or path.is_file():
        yield from _of_zip(path) if _is_zip(path) else [SourceFile(path, _partition(path))]
    elif path.is_dir():
        yield from _of_folder(path)
    elif path.exists():  # a pipe or a device
        yield SourceFile(path)
    elif (archive := next((parent for parent in path.parents if _is_zip(parent)), None)) is not None:
        yield from _of_zip(archive, str(path.relative_to(archive)))
    else:
        found = sorted(Path(match) for match in glob.glob(name, recursive=True))  # noqa: PTH207
        if not found:
            raise SimError(f"There is no file {name}; check the path.")
        _refuse_parts_of_lake(found)
        for match in found:
            yield from _of_folder(match) if match.is_dir() else [SourceFile(match, _partition(match))]


def _of_folder(folder: Path) -> Iterator[SourceFile]:
    _refuse_lake(folder)
    every = (path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    inside = sorted(path for path in every if not _is_prose(path))
    if not inside:
        raise SimError(f"The folder {folder} holds no files; check the path.")
    for path in inside:
        yield SourceFile(path, _partition(path))


def _partition(path: PurePath) -> dict[str, str | None]:
    """Return the columns that the names of folders hold."""
    found = (match for part in path.parts[:-1] if (match := _PARTITION.fullmatch(part)))
    return {match[1]: None if match[2] == _HIVE_NULL else unquote(match[2]) for match in found}


def _refuse_lake(folder: Path) -> None:
    """Refuse the folder of a table whose files hold deleted rows as well, which only its own reader knows."""
    for inside, name in _LAKES.items():
        if next(folder.rglob(inside), None) is not None:
            raise _of_lake(str(folder), name)


def _refuse_parts_of_lake(paths: Sequence[Path]) -> None:
    """Refuse files or partitions of such a table."""
    for folder in {parent for path in paths for parent in path.absolute().parents}:
        for inside, name in _LAKES.items():
            if next(folder.glob(inside), None) is not None:
                raise _of_lake(f"{paths[0]} is a part of {folder}, which", name)


def _of_lake(what: str, name: str) -> SimError:
    return SimError(
        f"{what} is a table of {name}, whose files hold rows that were deleted or replaced as well; write it "
        "as plain Parquet by the program that made it (Spark, DuckDB, or polars' scan_delta and scan_iceberg)."
    )


def _is_zip(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _ZIP


def _of_zip(path: Path, wanted: str = "*") -> Iterator[SourceFile]:
    """Yield the files of an archive that a glob names."""
    try:
        with ZipFile(path) as archive:
            inside = [PurePath(entry.filename) for entry in archive.infolist() if entry.file_size]
    except BadZipFile as error:
        raise SimError(f"{path} is a damaged zip archive: {error}; it may be cut off.") from None
    if PurePath(_OFFICE) in inside:
        raise SimError(f"{path} is a document of an office program; save its table as CSV.")
    inside = sorted(name for name in inside if not _hidden(name) and not _is_prose(name))
    found = [name for name in inside if fnmatch(str(name), wanted)]
    if not inside:
        raise SimError(f"{path} is a zip archive that holds no file of a log.")
    if not found:
        raise SimError(f"{path} holds no files {wanted}; it has {', '.join(map(str, inside))}.")
    for name in found:
        yield SourceFile(path, _partition(name), str(name))


def extracted(file: SourceFile, folder: Path) -> Path:
    """Return a copy of a file of an archive in `folder`.

    Raises:
        SimError: It is damaged, encrypted or packed in a way that is not known.
    """
    copy = folder / f"{len(list(folder.iterdir()))}-{file.last_name}"
    try:
        with (
            ZipFile(file.path) as archive,
            archive.open(file.member) as packed,
            refusing_full(copy),
            copy.open("wb") as out,
        ):
            shutil.copyfileobj(packed, out, 1 << 20)
    except (BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise SimError(f"{file.name} cannot be unpacked: {error}.") from None
    return copy


def _is_prose(path: PurePath) -> bool:
    return path.suffix.lower() in _PROSE or path.stem.lower() in _NO_LOGS


def _hidden(path: PurePath) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)
