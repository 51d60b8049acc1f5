"""What the generated pages are made of: headings, paragraphs, tables."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

WIDTH = 120


def page(title: str, intro: str, parts: Iterable[str]) -> str:
    """Return a page that says how it was made."""
    made = "Generated from the code by `make reference`; edit the docstrings, not this page."
    return "\n\n".join([f"# {title}", paragraph(f"{intro} {made}"), *parts]) + "\n"


def paragraph(text: str) -> str:
    return "\n".join(textwrap.wrap(plain(text), WIDTH, break_long_words=False, break_on_hyphens=False))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)


def cell(text: str) -> str:
    return plain(text).replace("|", "\\|")


def plain(text: str) -> str:
    """Return text on one line, without what Markdown would take for HTML or for emphasis."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"(?<!\\)([<*])", r"\\\1", part) for part in parts)


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def grouped(text: str) -> str:
    """Return what a list is made of, in parentheses where it has several words."""
    return f"({text})" if " or " in text or ", " in text else text


def member_docs(owner: type[Any]) -> dict[str, str]:
    """Return the docstrings that stand below the members of a class, by name."""
    return dict(_member_docs(ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]))


def _member_docs(found: ast.stmt) -> Iterator[tuple[str, str]]:
    assert isinstance(found, ast.ClassDef)
    for line, below in zip(found.body, found.body[1:], strict=False):
        target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0] if _assigns(line) else None
        if isinstance(target, ast.Name) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            yield target.id, str(below.value.value)


def _assigns(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign)
