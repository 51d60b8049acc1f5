"""A batch of rows of a table, as every format gives it."""

from typing import Any, Final, NamedTuple

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
