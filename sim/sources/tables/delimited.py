"""CSV and its kin: any separator, with or without a header, quoted or not. Every cell stays a text.

Without quotes a line is a row, and polars splits it. With quotes Python's csv reads it, row by row.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import polars as pl

from sim.errors import SimError
from sim.sources.tables.batch import ROW, BadRow, Batch
from sim.sources.tables.plain_text import BOM, ESCAPED_QUOTE, PlainText
from sim.sources.tables.settings import NO_QUOTE, TableSettings

_SAMPLE_LINES: Final = 100
_SEPARATORS: Final = (",", "\t", ";", "|", "::")
_NUMBERED: Final = {"item_id": "--item 2", "ts": "--time 3"}
_LEAST_BY_BLANKS: Final = 3  # columns of a file whose separator is a blank
_SEP_LINE: Final = re.compile(r"sep=(.)", re.IGNORECASE)  # by which Excel is told the separator
_MONTH: Final = "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DATA: Final = re.compile(  # what no column's name has in it: a date, a time of the day, an object
    rf"^\d{{4}}[-/]\d|^\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d|"
    rf"^\{{\"|^CreateTime:\d|\b\d{{1,2}}:\d\d\b|\b\d{{1,2}}[-/ ]{_MONTH}|{_MONTH}[a-z]* \d{{1,2}}, \d{{4}}"
)
_NOTHING: Final = ("", "\\N", "NULL")
_UNQUOTED: Final = (".tsv", ".inter", ".item", ".user", ".tab")
_BACKSLASHED: Final = re.compile(r'\\(["\\])')
_LONGEST_CELL: Final = 1 << 26  # characters
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
    preamble: int = 0
    """Lines before the header and the rows: comments, or Excel's sep=;."""
    escaped: bool = False
    """Whether a quote in a cell has a backslash before it."""

    @property
    def numbered(self) -> str:
        """What its columns are without a header, in words."""
        named = ", ".join(f"{name} ({cell})" for name, cell in zip(self.columns, self.first, strict=False))
        return f"its first line looks like data, so its columns are numbered: {named}"


def refuse_missing(owner: str, dialect: Dialect, missing: str) -> None:
    """Refuse the name of a column that a file without a header has not, or of a field of JSON in a cell.

    Raises:
        SimError: It is such a name; of another one the table says which there are.
    """
    column = missing.partition(".")[0]
    if column in dialect.columns and column != missing:
        raise SimError(
            f"{owner} has no column {missing!r}, and the cells of {column!r} are texts: {of_objects(column, dialect)}"
        )
    if not dialect.header:
        raise SimError(
            f"{owner} has no column {missing!r}: {dialect.numbered}. Name yours by number "
            f"({_NUMBERED.get(missing, '--user 1')}), or say --header if that line does name them."
        )


def of_objects(column: str, dialect: Dialect) -> str:
    """Return what to do where the cells of a column are JSON objects."""
    said = "objects of JSON in cells are not looked into; write each row as a line of JSON"
    place = dialect.columns.index(column) + 1
    if place == len(dialect.columns) and dialect.separator == "\t":
        return f"{said}, or cut the objects out, by cut -f{place} LOG > log.jsonl."
    return f"{said}, by mlr --icsv --ojsonl cat LOG > log.jsonl for instance, with the cells as fields."


def dialect_of(text: PlainText, extension: str, settings: TableSettings) -> Dialect:
    """Return how a file is written, by the settings, its name and its first lines.

    Raises:
        SimError: It has no rows.
    """
    csv.field_size_limit(_LONGEST_CELL)
    with text.path.open(encoding="utf-8", newline="") as file:
        sample = [line.rstrip("\r\n") for line in islice(file, _SAMPLE_LINES)]
    preamble, told = _preamble(sample, settings.between, extension)
    sample = [line for line in sample[preamble:] if line.strip()]
    if not sample:
        raise SimError(f"{text.name} has no rows; there is nothing to replay.")
    separator = settings.between or told or _separator(sample, extension)
    quote = _quote(text, extension, separator, settings.quote, sample)
    rows = [_cells(line, separator, quote) for line in sample]
    _refuse_title(text, rows, preamble)
    header = settings.header
    if header is None:
        header = _counts(rows[0]) or not (settings.numbered or any(map(_is_data, rows[0])))
    names = [name.strip() * header or str(n) for n, name in enumerate(rows[0], 1)]  # by number where it has no name
    data = rows[1:] if header else rows
    if header and data and all(len(row) == len(names) + 1 and not row[-1].strip() for row in data):
        names.append(str(len(names) + 1))  # each row ends in a separator, the header does not
    first = tuple(data[0]) if data else ()
    escaped = quote == '"' and _escaped(text, separator)
    return Dialect(separator, quote, header, _distinct(names), first, preamble, escaped)


def _preamble(sample: Sequence[str], between: str | None, extension: str) -> tuple[int, str | None]:
    """Return how many lines stand before the header or the first row, and the separator that they tell."""
    if sample and (told := _SEP_LINE.fullmatch(sample[0].strip(" "))):
        return 1, told[1]
    aside = next((n for n, line in enumerate(sample) if line.strip() and not line.startswith("#")), 0)
    if not aside:
        return 0, None
    separator = between or _separator([line for line in sample[aside:] if line.strip()], extension)
    widths = [len(_cells(line, separator, '"')) for line in sample[: aside + 1]]
    alike = (n for n in range(aside) if sample[n].startswith("#") and widths[n] == widths[-1])
    return next(alike, aside), None  # a line with as many cells as the rows is one, or the header


def _refuse_title(text: PlainText, rows: Sequence[Sequence[str]], preamble: int) -> None:
    """Refuse a file whose first line is one cell, where most others have more, or all are cut by runs of blanks."""
    words = {len(row[0].split()) for row in rows}
    if {len(row) for row in rows} == {1} and len(rows) > 1 and len(words) == 1 and max(words) >= _LEAST_BY_BLANKS:
        raise SimError(
            f"The cells of {text.name} lie between runs of blanks, which are no separator; make each a tab: "
            f"tr -s ' ' '\\t' < {text.name} > log.tsv"
        )
    filled = [sum(map(bool, map(str.strip, row))) for row in rows]
    fuller = sum(count > filled[0] for count in filled[1:])
    if filled[0] * 2 <= len(rows[0]) > 1 and fuller * 2 > len(rows) - 1 and not any(map(_is_data, rows[0])):
        raise SimError(
            f"Line {preamble + 1} of {text.name} is neither a header nor a row, since most of its cells are empty, and "
            f"those behind it are not: {','.join(rows[0])[:80]!r}; remove it."
        )
    several = [row for row in rows if len(row) > 1]
    if len(several) * 2 > len(rows) > 1 and re.fullmatch(r"\d+:", rows[0][0]) and len(rows[0]) == 1:
        raise SimError(
            f"Line 1 of {text.name}, {rows[0][0]!r}, seems to name the item of the lines behind it, as in the files of "
            "the Netflix Prize; write it into each: awk -F: 'NF==2{m=$1;next}{print m\",\"$0}' FILE > log.csv"
        )
    if len(rows[0]) == 1 and len(several) * 2 > len(rows) > 1:
        raise SimError(
            f"Line {preamble + 1} of {text.name} is neither a header nor a row, since it has no separator as the lines "
            f"behind it: {rows[0][0][:80]!r}; remove it."
        )


def _separator(sample: Sequence[str], extension: str) -> str:
    """Return the separator that cuts most lines into equally many cells."""

    def fit(separator: str) -> tuple[int, int]:
        rows = [_cells(line, separator, '"') for line in sample]
        usual, count = Counter(map(len, rows)).most_common(1)[0]
        torn = sum(any(cell.count("{") != cell.count("}") for cell in row) for row in rows)  # an object is one cell
        return (count if usual > 1 and torn * 2 <= len(rows) else 0, usual)

    first = "\t" if extension in _UNQUOTED else ","
    if fit(first)[0] == len(sample):
        return first
    best = max(_SEPARATORS, key=fit)
    if not fit(best)[0] and fit(" ")[0] == len(sample) and fit(" ")[1] >= _LEAST_BY_BLANKS:
        return " "
    return best if fit(best)[0] > fit(first)[0] else first


def _quote(text: PlainText, extension: str, separator: str, wanted: str | None, sample: Sequence[str]) -> str | None:
    if wanted == NO_QUOTE:
        return None
    if wanted is None:
        there = [quote for quote in "\"'" if quote in text.quotes]
        quoted = next((quote for quote in there if _are_quoted(sample, separator, quote)), None)
        unquoted = extension in _UNQUOTED or separator == "\t" or len(separator) > 1
        wanted = quoted or (None if unquoted else '"')
    if wanted is not None and len(separator) > 1:
        raise SimError(
            f"Cells of {text.name} have quotes around them and {separator!r} between them, and quotes are read only "
            f"beside a separator of one character: write another (sed 's/{separator}/\\t/g'), or say --quote none."
        )
    return wanted if wanted is None or wanted not in "\"'" or wanted in text.quotes else None


def _are_quoted(sample: Sequence[str], separator: str, quote: str) -> bool:
    """Return whether all cells of a first line have quotes around them, or those of any column in the lines behind it.

    So programs write that quote texts alone, or no header.
    """
    first, *others = [[cell.strip() for cell in line.split(separator)] for line in sample]
    if all(_in_quotes(cell, quote) for cell in first):
        return True
    width = Counter(map(len, others or [first])).most_common(1)[0][0]
    rows = [row for row in others or [first] if len(row) == width]
    given = ([cell for cell in column if cell not in _NOTHING] for column in zip(*rows, strict=True))
    return any(len(cells) * 2 > len(rows) and all(_in_quotes(cell, quote) for cell in cells) for cells in given)


def _in_quotes(cell: str, quote: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == quote


def _escaped(text: PlainText, separator: str) -> bool:
    """Return whether quotes in cells have a backslash before them, as MySQL and Spark write, in most lines with one."""
    if ESCAPED_QUOTE not in text.quotes:
        return False
    inner = re.compile(rf'\\"(?!{re.escape(separator)}|$)')
    with text.path.open(encoding="utf-8", newline="") as file:
        lines = islice((line for line in file if ESCAPED_QUOTE in line), _SAMPLE_LINES)
        found = [inner.search(line.rstrip("\r\n")) is not None for line in lines]
    return sum(found) * 2 > len(found)


def _cells(line: str, separator: str, quote: str | None) -> list[str]:
    if quote is None or quote not in line or len(separator) > 1:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator, quotechar=quote), [])
    except csv.Error:  # `_read` says what is wrong
        return line.split(separator)


def _counts(cells: Sequence[str]) -> bool:
    """Return whether a first line numbers the columns, as pandas names those that have no name."""
    return [cell.strip() for cell in cells] in ([str(n + start) for n in range(len(cells))] for start in (0, 1))


def _is_data(cell: str) -> bool:
    """Return whether a cell is a number or a time, so that its line is no header."""
    try:
        float(cell)
    except ValueError:
        return _DATA.search(cell.strip()) is not None
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
    yield from read(text, dialect, columns, size)


def _unquoted(text: PlainText, dialect: Dialect, columns: Sequence[str], size: int) -> Iterator[Batch]:
    width, start = len(dialect.columns), 1 - int(dialect.header) - dialect.preamble
    first = True
    line = pl.col("line").str.strip_prefix(BOM) if BOM in text.quotes else pl.col("line")
    lines = pl.scan_lines(text.path, glob=False).select(line=line, cells=line.str.split(dialect.separator))
    for part in lines.collect_batches(chunk_size=size, maintain_order=True):
        numbered = part.with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64) + start)
        start += len(part)
        if first:
            numbered = numbered.slice(dialect.preamble)
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


def _quoted(text: PlainText, dialect: Dialect, columns: Sequence[str], size: int) -> Iterator[Batch]:
    width = len(dialect.columns)
    pick = [itemgetter(dialect.columns.index(name)) for name in columns]
    with text.path.open(encoding="utf-8", newline="") as file:
        lines = _mended(islice(file, dialect.preamble, None), text, dialect)
        reader = csv.reader(lines, delimiter=dialect.separator, quotechar=dialect.quote)
        rows = enumerate(_single(reader, dialect), 0 if dialect.header else 1)
        if dialect.header:
            next((row for _, (row, _, _) in rows if row), None)
        while part := list(islice(rows, size)):
            bad = [
                _wrong(number, row, count, width, joined=joined)
                for number, (row, count, joined) in part
                if len(row) != width or joined
            ]
            kept = [(number, row) for number, (row, _, joined) in part if len(row) == width and not joined]
            data = {name: [get(row) for _, row in kept] for name, get in zip(columns, pick, strict=True)}
            frame = pl.DataFrame(
                {ROW: [number for number, _ in kept]} | data, schema={ROW: pl.Int64} | dict.fromkeys(columns, pl.String)
            )
            yield Batch(frame, [row for row in bad if row])


def _mended(lines: Iterator[str], text: PlainText, dialect: Dialect) -> Iterator[str]:
    """Return lines as csv reads them: without marks of a byte order inside the file, quotes in cells doubled."""
    if BOM in text.quotes:
        lines = (line.removeprefix(BOM) for line in lines)
    return (_BACKSLASHED.sub(_doubled, line) for line in lines) if dialect.escaped else lines


def _doubled(found: re.Match[str]) -> str:
    return '""' if found[1] == '"' else "\\"


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
