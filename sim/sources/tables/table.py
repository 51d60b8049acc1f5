"""A table of one or several files of any format: its columns, and its rows in batches."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import polars as pl
from xxhash import xxh3_128

from sim.errors import SimError
from sim.sources.tables import delimited, json_lines, parquet
from sim.sources.tables.batch import BATCH_ROWS, ROW, AnyFile, Batch, Enough, never
from sim.sources.tables.delimited import Dialect
from sim.sources.tables.places import STDIN, SourceFile, extracted, files_of
from sim.sources.tables.plain_text import PlainText, plain_text, spooled
from sim.sources.tables.scratch import Scratch
from sim.sources.tables.settings import TableSettings

Kind = Literal["delimited", "json", "parquet"]
_PACKED: Final = (".gz", ".bz2", ".zst", ".xz")
_JSON: Final = (".json", ".jsonl", ".ndjson")
_PARQUET_MAGIC: Final = b"PAR1"
_BLOCK: Final = 1 << 20
HEAD_BYTES: Final = 8 << 20
_GROWTH: Final = 8
_LISTED: Final = 100  # columns in a sentence


def open_table(names: Sequence[str], settings: TableSettings, *, heads: bool = False) -> "Table":
    """Return the table that files, folders and globs make together.

    Args:
        names: The files.
        settings: How they are written.
        heads: Whether only the first HEAD_BYTES of each text are opened, until `lengthen` opens more.

    Raises:
        SimError: There is no such file.
    """
    return Table(files_of(names), settings, _name_of(names), HEAD_BYTES if heads else None)


def _name_of(names: Sequence[str]) -> str:
    first = "standard input" if names[0] == STDIN else names[0]
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"


class FrameTable:
    """A frame as a table."""

    kind = "frame"

    def __init__(self, name: str, frame: pl.DataFrame) -> None:
        self.name, self._frame, self.columns = name, frame, frame.columns

    def batches(self, columns: Sequence[str], *, enough: Enough = never) -> Iterator[tuple[AnyFile, Batch]]:
        """Yield the named columns of all rows, in one batch."""
        _refuse_missing(self.name, self.columns, columns)
        rows = self._frame.select(list(dict.fromkeys(columns))).with_row_index(ROW, offset=1)
        yield self, Batch(rows.with_columns(pl.col(ROW).cast(pl.Int64)), [])

    def lengthen(self, enough: Enough, *, whole: bool) -> bool:
        """Return false: it is whole."""
        return False


class Table:
    """Files that are read one after another.

    Args:
        files: The files.
        settings: How they are written.
        name: What they are together, for people.
        head_bytes: How much of each text is opened; None: all.
    """

    def __init__(
        self, files: Sequence[SourceFile], settings: TableSettings, name: str, head_bytes: int | None = None
    ) -> None:
        self.name = name
        self.settings = settings
        self._scratches = [Scratch()]
        self.files = [TableFile(file, settings, self._scratches[0].folder, head_bytes) for file in files]

    @property
    def columns(self) -> list[str]:
        """The columns of its first file."""
        return self.files[0].columns

    @cached_property
    def later_columns(self) -> dict[str, str]:
        """Columns that its first file lacks, each with the name of the first file that has it."""
        others, own = [(name, file.name) for file in self.files[1:] for name in file.columns], set(self.columns)
        return {name: owner for name, owner in reversed(others) if name not in own}

    @property
    def readable(self) -> list[str]:
        """Its columns, without those inside of lists that are not exploded, and those whose name is blank."""
        return [name for name in self.columns if self.files[0].closed_list(name) is None and name.strip()]

    @property
    def digest(self) -> str:
        """A text that is equal only for equal content."""
        return xxh3_128("\0".join(file.digest for file in self.files).encode()).hexdigest()

    def reopened(self, settings: TableSettings) -> "Table":
        """Return the same files under other settings; what was unpacked stays."""
        made = Table([file.file for file in self.files], settings, self.name)
        made._scratches = [*self._scratches, *made._scratches]
        for file, before in zip(made.files, self.files, strict=True):
            file.take_over(before)
        return made

    def batches(
        self, columns: Sequence[str], size: int = BATCH_ROWS, *, enough: Enough = never
    ) -> Iterator[tuple[AnyFile, Batch]]:
        """Yield the named columns of all rows, about `size` rows at once, until there are enough of a file.

        Raises:
            SimError: A file lacks a column, or cannot be read.
        """
        wanted = list(dict.fromkeys(columns))
        for file in self.files:
            for batch in file.batches(wanted, size, self._comes_late):
                yield file, batch
                if enough(file):
                    break

    def _comes_late(self, name: str) -> bool:
        """Return whether another file of JSON has a column, or lines of it that were not looked at may have it."""
        if any(file.kind != "json" for file in self.files):
            return False
        seen = name in self.columns or name in self.later_columns
        return seen or not all(json_lines.is_looked_through(file.lines) for file in self.files)

    def lengthen(self, enough: Enough, *, whole: bool) -> bool:
        """Open more of the files of which only the beginning is, and not enough; return whether there were any."""
        short = [file for file in self.files if not file.is_whole and not enough(file)]
        for file in short:
            file.lengthen(whole=whole)
        return bool(short)


@dataclass
class TableFile:
    """One file of a table."""

    file: SourceFile
    settings: TableSettings
    scratch: Path
    head_bytes: int | None = None

    @property
    def name(self) -> str:
        """Its path, for people."""
        return self.file.name

    def take_over(self, before: "TableFile") -> None:
        """Use what was unpacked of the same file under other settings."""
        if self.file.member or not self.file.path.is_file():
            self._path = before._path
        self.head_bytes = before.head_bytes
        if before.kind != "parquet" and before.settings.encoding == self.settings.encoding:
            self.text = before.text
            same = ("lines", "_own") if before.kind == "json" else ("lines",)
            self.__dict__.update({name: before.__dict__[name] for name in same if name in before.__dict__})

    @property
    def is_whole(self) -> bool:
        """Whether all of it is open."""
        return self.kind == "parquet" or self.text.whole

    def lengthen(self, *, whole: bool) -> None:
        """Open more of its text, or all of it."""
        self.head_bytes = None if whole or self.head_bytes is None else self.head_bytes * _GROWTH
        for name in ("text", "lines", "dialect", "digest"):
            self.__dict__.pop(name, None)

    @cached_property
    def _path(self) -> Path:
        path = self.file.path
        if self.file.member:
            return extracted(self.file, self.scratch)
        return path if path.is_file() else spooled(None if self.file.is_stdin else path, self.scratch)

    @cached_property
    def extension(self) -> str:
        """The last part of its name, without that of a packer; in small letters."""
        path = Path(self.file.last_name.lower())
        return Path(path.stem).suffix if path.suffix in _PACKED else path.suffix

    @cached_property
    def kind(self) -> Kind:
        """What it is, by its content."""
        with self._path.open("rb") as file:
            if file.read(4) == _PARQUET_MAGIC:
                return "parquet"
        if self.extension == ".parquet":
            raise SimError(f"{self.name} cannot be read as .parquet: it does not begin as one; it may be cut off.")
        with self.text.path.open("rb") as file:
            head = file.read(4096)
        objects = head.lstrip()[:1] == b"{" or json_lines.is_array(head)
        return "json" if objects or self.extension in _JSON else "delimited"

    @cached_property
    def text(self) -> PlainText:
        """Its text, of a file that is no Parquet."""
        return plain_text(self._path, self.name, self.settings.encoding, self.scratch, self.head_bytes)

    @cached_property
    def lines(self) -> PlainText:
        """Its text, of a file of JSON, as an object a line."""
        return json_lines.lines_of_array(self.text, self.scratch) if self.is_array else self.text

    @property
    def is_array(self) -> bool:
        """Whether it is one JSON array of objects."""
        if self.kind != "json":
            return False
        with self.text.path.open("rb") as file:
            return json_lines.is_array(file.read(4096))

    @cached_property
    def dialect(self) -> Dialect:
        """How its rows are written, of a delimited file."""
        return delimited.dialect_of(self.text, self.extension, self.settings)

    @cached_property
    def columns(self) -> list[str]:
        """Its columns, those that its folders' names hold included."""
        return [*self._own, *(name for name in self.file.partition if name not in self._own)]

    def closed_list(self, name: str) -> str | None:
        """Return the list that a column lies in; None if in none, or in one that is exploded."""
        inside = self._own.get(name)
        return None if inside in self.settings.exploded else inside

    @cached_property
    def _own(self) -> dict[str, str | None]:
        """The columns of its content, each with the list it lies in."""
        if self.kind == "parquet":
            try:
                return parquet.columns_of(self._path)
            except pl.exceptions.PolarsError as error:
                raise self._unreadable(error) from None
        return json_lines.columns_of(self.lines) if self.kind == "json" else dict.fromkeys(self.dialect.columns)

    @cached_property
    def digest(self) -> str:
        """Of its content, and of its folders' names; of a Parquet file that is not read to its end, of its footer."""
        if self.kind != "parquet":
            return self.text.digest + str(self.file.partition)
        digest = xxh3_128(str(self.file.partition).encode())
        with self._path.open("rb") as file:
            if self.head_bytes is not None:
                size = file.seek(0, os.SEEK_END)
                digest.update(size.to_bytes(8))
                file.seek(max(0, size - _BLOCK))
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def batches(self, columns: Sequence[str], size: int, comes_late: Callable[[str], bool]) -> Iterator[Batch]:
        """Yield the named columns of all rows, about `size` rows at once.

        Args:
            columns: The columns.
            size: Rows of a batch.
            comes_late: Returns whether one that was not seen here may still come, or is in another file.

        Raises:
            SimError: A column is missing, or it cannot be read.
        """
        _refuse_missing_in(self, columns, comes_late)
        constant = {name: value for name, value in self.file.partition.items() if name in columns}
        constant = {name: value for name, value in constant.items() if name not in self._own}
        own = [name for name in columns if name not in constant]
        try:
            for batch in self._batches(own, size):
                frame = batch.frame.with_columns(
                    pl.lit(value, pl.String).alias(name) for name, value in constant.items()
                )
                yield Batch(frame.select(ROW, *columns), batch.bad)
        except pl.exceptions.PolarsError as error:
            raise self._unreadable(error) from None

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        if self.kind == "delimited":
            return delimited.batches(self.text, self.dialect, columns, size)
        exploded = self.settings.exploded
        if self.kind == "json":
            return json_lines.batches(self.lines, columns, exploded, size, self.settings.texts, self.settings.lists)
        return parquet.batches(self._path, columns, exploded, size)

    def _unreadable(self, error: Exception) -> SimError:
        first_line = str(error).partition("\n")[0]
        return SimError(f"{self.name} cannot be read: {first_line}")


def _refuse_missing_in(file: TableFile, wanted: Sequence[str], comes_late: Callable[[str], bool]) -> None:
    """Refuse a file that lacks a wanted column, or one that is exploded; the error lists its columns."""
    _refuse_exploded(file)
    for name in wanted:
        if (inside := file.closed_list(name)) is not None:
            raise SimError(
                f"{file.name} has {name!r} in lists: "
                f"--explode {shlex.quote(inside)} makes a row of each of their elements."
            )
    missing = next((name for name in wanted if name not in file.columns), None)
    if missing is None:
        return
    if fields := [name for name in file.columns if name.startswith(f"{missing}.")]:
        raise SimError(f"{file.name} has objects in {missing!r}; name one of their fields: {', '.join(fields)}.")
    if file.kind == "json" and ("." in missing or comes_late(missing)):
        return
    if file.kind == "delimited":
        delimited.refuse_missing(file.name, file.dialect, missing)
    _refuse_missing(file.name, file.columns, [missing])


def _refuse_exploded(file: TableFile) -> None:
    """Refuse --explode of what is no list, or of a list in another."""
    for name in file.settings.exploded:
        if file.kind == "delimited":
            raise SimError(
                f"--explode {name} is for lists of JSON and Parquet, and the cells of {file.name} are texts. "
                f"A text of several ids is a slate: --shown {shlex.quote(name)}."
            )
        if name in file.columns and (outer := file.closed_list(name) or _outer(file, name)):
            raise SimError(
                f"{file.name} has the list {name!r} in the list {outer!r}, and only lists outside of others are "
                "exploded; write one object for each element of the outer list first (jq, or polars' explode)."
            )
        if not (file.kind == "json" and "." in name):
            _refuse_missing(file.name, file.columns, [name])


def _outer(file: TableFile, name: str) -> str | None:
    """Return the exploded list that a list lies in."""
    return next((each for each in file.settings.exploded if name.startswith(f"{each}.")), None)


def _refuse_missing(owner: str, there: Sequence[str], wanted: Sequence[str]) -> None:
    for missing in wanted:
        if missing not in there:
            raise SimError(
                f"{owner} has no column {missing!r}; its columns are {', '.join(there[:_LISTED])}"
                f"{' …' if len(there) > _LISTED else ''}. "
                "Name yours by --user, --item, --time and --action or --rating; hstu inspect shows what they hold."
            )
