"""The few pieces of HTML that the report is made of. Cells and parts are HTML already; titles and texts get escaped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Column:
    """A column of a table: numbers stand at the right."""

    title: str
    number: bool = True


@dataclass(frozen=True)
class Row:
    """A row of a table and its class."""

    cells: Sequence[str]
    look: str = ""


def table(columns: Sequence[Column], rows: Iterable[Row | Sequence[str]], caption: str = "") -> str:
    """Give a table that scrolls sideways where the page is narrow; its first column stays."""
    head = "".join(f"<th{_side(column)} scope=col>{escape(column.title)}</th>" for column in columns)
    body = "".join(_row(columns, row if isinstance(row, Row) else Row(row)) for row in rows)
    above = f'<p class="caption">{caption}</p>\n' if caption else ""
    return f'{above}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'


def _row(columns: Sequence[Column], row: Row) -> str:
    first, *rest = zip(columns, row.cells, strict=True)
    look = f' class="{row.look}"' if row.look else ""
    cells = "".join(f"<td{_side(column)}>{cell}</td>" for column, cell in rest)
    return f"<tr{look}><th{_side(first[0])} scope=row>{first[1]}</th>{cells}</tr>\n"


def _side(column: Column) -> str:
    return ' class="n"' if column.number else ""


def section(name: str, title: str, *parts: str, level: int = 2) -> str:
    """Give a section with a heading that can be linked to."""
    return f'<section id="{escape(name)}"><h{level}>{escape(title)}</h{level}>\n{"".join(parts)}</section>\n'


def paragraph(text: str, look: str = "") -> str:
    """Give a paragraph of plain text."""
    return f"<p{f' class={chr(34)}{look}{chr(34)}' if look else ''}>{escape(text)}</p>\n"


def bullets(texts: Iterable[str], look: str = "") -> str:
    """Give a list of plain texts; nothing for none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul{f' class={chr(34)}{look}{chr(34)}' if look else ''}>{items}</ul>\n" if items else ""


def folded(title: str, *parts: str, unfold: bool = False, look: str = "") -> str:
    """Give something that opens at a click; on paper it is open, unless it looks `bulk`."""
    look = f' class="{look}"' if look else ""
    return f"<details{look}{' open' if unfold else ''}><summary>{escape(title)}</summary>\n{''.join(parts)}</details>\n"


def figure(svg: str, caption: str) -> str:
    """Give a plot with what it shows said below it."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>\n"


def figures(parts: Iterable[str]) -> str:
    """Give plots side by side where there is room."""
    return f'<div class="figures">{"".join(parts)}</div>\n'
