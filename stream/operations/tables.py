"""Tables on a terminal; tab-separated lines where the output goes to a file or another program."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their columns."""
    texts = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in (columns, *texts):
            print("\t".join(line))
        return
    table = Table(*(Column(escape(column), overflow="fold") for column in columns))
    for line in texts:
        table.add_row(*(escape(cell) for cell in line))
    Console().print(table)


def printable(text: str) -> str:
    """Return text that can neither steer a terminal nor break a line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def when(ts_ms: int) -> str:
    """Return a time in ms since 1970 as text, in UTC to the millisecond."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")
