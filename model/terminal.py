"""Tables on the terminal; tab-separated lines where the output goes to a file or another program."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream.example import printable

_YEAR_1_MS: Final = -62_135_596_800_000  # watermarks lie outside both before the first event and after the last
_YEAR_10000_MS: Final = 253_402_300_800_000


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Print rows under their columns, numbers aligned to the right."""
    columns = [printable(column) for column in columns]
    texts = [[_text(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in (columns, *texts):
            print("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in line))
        return
    table = Table(title=title and escape(printable(title)), title_justify="left")
    for i, column in enumerate(columns):
        numeric = all(isinstance(row[i], int | float) for row in rows)
        table.add_column(escape(column), justify="right" if numeric else "left", overflow="fold")
    for line in texts:
        table.add_row(*(escape(cell) for cell in line))
    Console().print(table)


def show_notes(*sentences: str | None) -> None:
    """Print sentences about a table to stderr, so that a pipe gets the table alone."""
    for sentence in sentences:
        if sentence:
            print(printable(sentence), file=sys.stderr)


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else printable(str(cell))


def when(ts_ms: float) -> str:
    """Return a time in ms since 1970 as text, in UTC to the second."""
    if ts_ms >= _YEAR_10000_MS:
        return "the end of time"
    if ts_ms < _YEAR_1_MS:
        return "the beginning of time"
    return datetime.fromtimestamp(ts_ms // 1000, UTC).replace(tzinfo=None).isoformat(" ")


def span(seconds: float) -> str:
    """Return a length of time as text, in its two largest units."""
    parts: list[str] = []
    left = max(0, round(seconds))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
