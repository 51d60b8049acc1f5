"""What the page is made of, as plain data: templates/elements.html.jinja turns it into HTML and escapes every text."""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.report.plots.style import Look


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers are aligned to the right."""

    title: str
    number: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell that is more than a text."""

    text: str
    below: Sequence[str] = ()
    """Lines below it in small letters."""
    look: Look | None = None
    """Whose marker stands before the text."""
    look_below: Look | None = None
    """Whose marker stands before the lines below."""
    verdict: str = ""
    """The verdict of `statistics.gaps` whose sign stands before the text."""
    link: str = ""
    """Id of the section that the text links to."""
    bold: bool = False
    code: bool = False


Shown = str | Cell | Sequence[Cell]  # several cells in one: a line each


@dataclass(frozen=True)
class Row:
    """A row and its CSS class."""

    cells: Sequence[Shown]
    look: str = ""


@dataclass(frozen=True)
class Table:
    """A table that scrolls sideways where the page is narrow; its first column stays."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    caption: str = ""
