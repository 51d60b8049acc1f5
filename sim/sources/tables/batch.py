"""A batch of rows of a table, as every format gives it, and what tables have in common."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import polars as pl

BATCH_ROWS: Final = 200_000
ROW: Final = "\0row"
"""Column of a batch: the number of each row in its file, from 1, a header not counted."""


class BadRow(NamedTuple):
    """A row that cannot be read."""

    row: int
    reason: str
    """What is wrong, without numbers or values: it is counted by."""
    content: Any
    rows: int = 1
    """Rows that it stands for: the lines of one that a quote has run together."""


class Batch(NamedTuple):
    """Rows of one file, in its order."""

    frame: pl.DataFrame
    """The wanted columns, and ROW."""
    bad: list[BadRow]


class AnyFile(Protocol):
    """What rows come from, as errors name it."""

    @property
    def name(self) -> str:
        """Its name for people."""
        ...

    @property
    def kind(self) -> str:
        """What it is."""
        ...


Enough = Callable[[AnyFile], bool]


class AnyTable(Protocol):
    """Rows in batches."""

    @property
    def name(self) -> str:
        """Its name for people."""
        ...

    @property
    def columns(self) -> list[str]:
        """Its columns."""
        ...

    def batches(self, columns: Sequence[str], *, enough: Enough = ...) -> Iterator[tuple[AnyFile, Batch]]:
        """Yield the named columns of all rows, until there are enough of a file."""
        ...

    def lengthen(self, enough: Enough, *, whole: bool) -> bool:
        """Open more of the files of which only the beginning is, and not enough; return whether there were any."""
        ...


def never(_: AnyFile) -> bool:
    """Return false: there are never enough rows."""
    return False
