"""Rows of a log that cannot be read: counted by what is wrong, kept in a file if wanted, and refused above a limit."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import polars as pl

from sim.errors import SimError
from sim.sources.tables.batch import ROW, AnyFile, BadRow
from sim.sources.tables.cells import Fault

_SHOWN: Final = 80  # characters of a value in a sentence
_LONGEST: Final = 1 << 24  # bytes of a line that is looked at
_KEYS: Final = {"file", "row", "reason", "content"}


def refuse_overwriting(name: str, inputs: Iterable[Path]) -> None:
    """Refuse a file for bad rows that is read itself, or that holds anything else than bad rows.

    Args:
        name: The file, as --bad-rows names it.
        inputs: The files that are read, under any name.

    Raises:
        SimError: It is one of these, a folder, or has other content.
    """
    path = Path(name)
    if path.is_dir():
        raise SimError(f"--bad-rows {name} is no file; name a new one, such as bad.jsonl.")
    if not path.is_file():
        return  # a new one, a pipe or a device
    if any(each.exists() and path.samefile(each) for each in inputs):
        raise SimError(f"--bad-rows {name} is a file that is read, and would be overwritten; name a new one.")
    with _writing(path), path.open("rb") as file:
        first = file.readline(_LONGEST)
    if first and not _is_bad_row(first):
        raise SimError(f"--bad-rows {name} is there, holds no bad rows, and would be overwritten; name a new one.")


def _is_bad_row(line: bytes) -> bool:
    try:
        content = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) == _KEYS


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make a sentence of what the system refuses in the block.

    Raises:
        SimError: The file cannot be used.
    """
    try:
        yield
    except OSError as error:
        raise SimError(f"--bad-rows {path} cannot be written: {error.strerror}; name another file.") from None


class SkipLimit:
    """How many bad rows may be left out, of "none", a number, a share as "1%", or "all".

    Raises:
        SimError: The text is none of these.
    """

    def __init__(self, text: str | None) -> None:
        self._text = text or "0"
        if self._text != "all" and not re.fullmatch(r"\d+|\d+(\.\d+)?%", self._text):
            raise SimError(f"--skip-bad {text} is no limit; give a number of rows, a share as 1%, or all.")
        self._number = float("inf") if self._text == "all" else float(self._text.removesuffix("%"))

    def allows(self, bad: int, rows: int) -> bool:
        """Return whether so many of all rows may be bad."""
        if self._text.endswith("%"):
            return bad * 100 <= self._number * rows
        return bad <= self._number


class BadRows:
    """Collects the bad rows of one log.

    Args:
        skip: The limit, as --skip-bad has it.
        path: File of the rows that are left out, JSON lines; None keeps none.
        more: Whether the file has rows already, behind which these are written.
    """

    def __init__(self, skip: str | None, path: Path | None, *, more: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self._limit = SkipLimit(skip)
        self._first = ""
        self._path = path if skip is not None else None
        self._out: IO[bytes] | None = None
        if self._path:
            with _writing(self._path):
                self._out = self._path.open("ab" if more else "wb")

    def add(self, file: AnyFile, rows: Sequence[BadRow]) -> None:
        """Note rows that the table could not cut into cells."""
        for bad in rows:
            self.counts[bad.reason] += bad.rows
            if self._out:
                self._write(file, bad.row, bad.reason, bad.content)
            if not self._first:
                self._first = f"{_place(file, bad.row)} is bad, {bad.reason}: {str(bad.content)[:_SHOWN]}"

    def drop(self, file: AnyFile, frame: pl.DataFrame, faults: Sequence[Fault]) -> pl.Series | None:
        """Note rows with a fault; return which rows have none, or None if all are good."""
        wrong = [fault for fault in faults if fault.wrong.any()]
        if not wrong:
            return None
        bad = pl.Series([False]).new_from_index(0, len(frame))
        for fault in wrong:
            here = fault.wrong & ~bad
            self._note_all(file, frame.filter(here), fault)
            bad = bad | here
        return ~bad

    def _note_all(self, file: AnyFile, rows: pl.DataFrame, fault: Fault) -> None:
        if rows.is_empty():
            return
        reason = f"{fault.column} {fault.reason}"
        if not self._first:
            value = rows[fault.column].head(1).to_list()[0]
            what = "time" if "time" in fault.reason or "years" in fault.reason else "value"
            shown = repr(value)[:_SHOWN]
            self._first = (
                f"{_place(file, rows[ROW][0])} has the {what} {shown} in column {fault.column!r}, which {fault.reason}"
            )
        self.counts[reason] += len(rows)
        if self._out:
            for row in rows.iter_rows(named=True):
                number = row.pop(ROW)
                self._write(file, number, reason, row)

    def _write(self, file: AnyFile, row: int, reason: str, content: Any) -> None:
        assert self._out is not None
        assert self._path is not None
        line = {"file": file.name, "row": row, "reason": reason, "content": content}
        with _writing(self._path):
            self._out.write(msgspec.json.encode(line, enc_hook=str) + b"\n")

    def close(self) -> None:
        """Write what is left to the file."""
        if self._out and self._path:
            with _writing(self._path):
                self._out.close()

    @property
    def kinds(self) -> str:
        """What is wrong, and how often."""
        return "; ".join(f"{count:,} × {reason}" for reason, count in self.counts.most_common(8))

    def finish(self, rows: int) -> None:
        """Close the file.

        Args:
            rows: Number of rows in all, bad ones included.

        Raises:
            SimError: There are more bad rows than the limit allows.
        """
        self.close()
        bad = self.counts.total()
        if self._limit.allows(bad, rows):
            return
        raise SimError(
            f"{self._first}; mend or remove the row. {bad:,} of {rows:,} rows are bad ({self.kinds}): "
            f"--skip-bad {bad} leaves them out, --bad-rows FILE keeps them.{_most_of(bad, rows)}"
        )


def _most_of(bad: int, rows: int) -> str:
    """Return a sentence where most rows are bad."""
    return " That is most of the log: is another column meant, or none?" if bad * 2 > rows else ""


def _place(file: AnyFile, row: int) -> str:
    return f"Row {row} of {file.name}" + (" (not counting a header)" if file.kind == "delimited" else "")
