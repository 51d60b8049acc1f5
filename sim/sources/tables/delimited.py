"""CSV and its kin: any separator, with or without a header, quoted or not. Every cell stays a text.

Without quotes a line is a row, and polars splits it. With quotes Python's csv reads it, row by row.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import polars as pl

from sim.errors import SimError
from sim.sources.tables.batch import ROW, BadRow, Batch
from sim.sources.tables.plain_text import PlainText
from sim.sources.tables.settings import NO_QUOTE, TableSettings

_SAMPLE_LINES: Final = 100
_SEPARATORS: Final = (",", "\t", ";", "|", "::")
_UNQUOTED: Final = (".tsv", ".inter", ".item", ".user", ".tab")
_LONGEST_CELL: Final = 1 << 26
_SWALLOWED: Final = "a quote that swallows lines which look like rows (--quote none if quotes are ordinary characters)"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the rows of a file are written."""

    separator: str
    quote: str | None
    header: bool
    columns: tuple[str, ...]
    first: tuple[str, ...]
    """Cells of the first row of data; empty without one."""


def dialect_of(text: PlainText, extension: str, settings: TableSettings) -> Dialect:
    """Return how a file is written, by the settings, its name and its first lines.

    Raises:
        SimError: It has no rows.
    """
    with text.path.open(encoding="utf-8", newline="") as file:
        sample = [line.rstrip("\r\n") for line in islice(file, _SAMPLE_LINES)]
    sample = [line for line in sample if line.strip()]
    if not sample:
        raise SimError(f"{text.name} has no rows; there is nothing to replay.")
    separator = settings.between or _separator(sample, extension)
    quote = _quote(text, extension, separator, settings.quote)
    rows = [_cells(line, separator, quote) for line in sample]
    header = settings.header
    if header is None:
        header = _counts(rows[0]) or not (settings.numbered or any(map(_is_number, rows[0])))
    names = [name.strip() for name in rows[0]] if header else [str(n) for n in range(1, len(rows[0]) + 1)]
    data = rows[1:] if header else rows
    return Dialect(separator, quote, header, _distinct(names), tuple(data[0]) if data else ())


def _separator(sample: Sequence[str], extension: str) -> str:
    """Return the separator that cuts most lines into equally many cells."""

    def fit(separator: str) -> tuple[int, int]:
        counts = [len(_cells(line, separator, '"')) for line in sample]
        usual = counts[0]
        return (counts.count(usual) if usual > 1 else 0, usual)

    first = "\t" if extension in _UNQUOTED else ","
    if fit(first)[0] == len(sample):
        return first
    best = max(_SEPARATORS, key=fit)
    return best if fit(best)[0] > fit(first)[0] else first


def _quote(text: PlainText, extension: str, separator: str, wanted: str | None) -> str | None:
    if wanted == NO_QUOTE:
        return None
    if wanted is None:
        wanted = None if extension in _UNQUOTED or separator == "\t" or len(separator) > 1 else '"'
    return wanted if wanted is None or wanted not in "\"'" or wanted in text.quotes else None


def _cells(line: str, separator: str, quote: str | None) -> list[str]:
    if quote is None or quote not in line or len(separator) > 1:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator, quotechar=quote), [])


def _counts(cells: Sequence[str]) -> bool:
    """Return whether a first line numbers the columns, as pandas names those that have no name."""
    return [cell.strip() for cell in cells] in ([str(n + start) for n in range(len(cells))] for start in (0, 1))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell[:4].isdigit() and cell[4:5] in ("-", "/") and cell[5:6].isdigit()
    return cell.strip().lower() not in ("nan", "inf", "infinity")


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(made)


def batches(text: PlainText, dialect: Dialect, columns: Sequence[str], size: int) -> Iterator[Batch]:
    """Yield the named columns; rows with more or fewer cells than the header are bad."""
    read = _unquoted if dialect.quote is None else _quoted
    yield from read(text.path, dialect, columns, size)


def _unquoted(path: Path, dialect: Dialect, columns: Sequence[str], size: int) -> Iterator[Batch]:
    width, start = len(dialect.columns), 1 - int(dialect.header)
    first = True
    lines = pl.scan_lines(path, glob=False).select(line="line", cells=pl.col("line").str.split(dialect.separator))
    for part in lines.collect_batches(chunk_size=size, maintain_order=True):
        numbered = part.with_row_index(ROW, offset=start).with_columns(pl.col(ROW).cast(pl.Int64))
        start += len(part)
        if first and dialect.header:
            blank = (numbered["line"].str.strip_chars() != "").arg_true()
            numbered = numbered.slice(int(blank[0]) + 1 if len(blank) else 0)
        first = False
        whole = numbered["cells"].list.len() == width
        empty = numbered["line"].str.strip_chars() == ""
        bad = numbered.filter(~whole & ~empty).select(ROW, "line", n=pl.col("cells").list.len())
        rows = numbered.filter(whole & ~empty) if not (whole & ~empty).all() else numbered
        cells = {name: pl.col("cells").list.get(dialect.columns.index(name)) for name in columns}
        yield Batch(rows.select(ROW, **cells), [_ragged(row, line, n, width) for row, line, n in bad.iter_rows()])


def _ragged(row: int, line: str, cells: int, width: int) -> BadRow:
    return BadRow(row, f"{'more' if cells > width else 'fewer'} cells than the {width} columns", line)


def _quoted(path: Path, dialect: Dialect, columns: Sequence[str], size: int) -> Iterator[Batch]:
    csv.field_size_limit(_LONGEST_CELL)
    width = len(dialect.columns)
    pick = [itemgetter(dialect.columns.index(name)) for name in columns]
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter=dialect.separator, quotechar=dialect.quote)
        rows = enumerate(_single(reader, dialect), 0 if dialect.header else 1)
        if dialect.header:
            next((row for _, (row, _, _) in rows if row), None)
        while part := list(islice(rows, size)):
            bad = [
                _wrong(number, row, lines, width, joined=joined)
                for number, (row, lines, joined) in part
                if len(row) != width or joined
            ]
            kept = [(number, row) for number, (row, _, joined) in part if len(row) == width and not joined]
            data = {name: [get(row) for _, row in kept] for name, get in zip(columns, pick, strict=True)}
            frame = pl.DataFrame(
                {ROW: [number for number, _ in kept]} | data, schema={ROW: pl.Int64} | dict.fromkeys(columns, pl.String)
            )
            yield Batch(frame, [row for row in bad if row])


def _single(reader: Any, dialect: Dialect) -> Iterator[tuple[list[str], int, bool]]:
    """Yield each row, [] for a blank line; its lines; and whether a quote swallowed some that look like rows."""
    last, inner = 0, len(dialect.columns) - 1
    for row in _read(reader):
        lines, last = reader.line_num - last, reader.line_num
        joined = lines > 1 and any(
            line.count(dialect.separator) == inner for cell in row if "\n" in cell for line in cell.split("\n")[1:-1]
        )
        joined = joined or (lines > 1 and _torn(row, dialect, inner))
        yield row, lines, joined


def _read(reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise SimError(
            f"A row that ends in line {reader.line_num} cannot be read: {error}; it may have {_SWALLOWED}."
        ) from None


def _torn(row: list[str], dialect: Dialect, inner: int) -> bool:
    """Return whether a cell of several lines ends in the middle of what looks like a row, or begins with one."""
    if not inner:
        return False
    for place, cell in enumerate(row):
        if "\n" in cell:
            rest = cell.rsplit("\n", 1)[1].count(dialect.separator) + len(row) - place - 1
            head = place + cell.partition("\n")[0].count(dialect.separator)
            if rest == inner and (place > 0 or head == inner):
                return True
    return False


def _wrong(row: int, cells: list[str], lines: int, width: int, *, joined: bool) -> BadRow | None:
    if joined:
        return BadRow(row, _SWALLOWED, cells, lines)
    return _ragged(row, str(cells), len(cells), width)._replace(rows=lines) if cells else None
