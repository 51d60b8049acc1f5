"""Plain data that becomes HTML by the templates' macros."""

from html.parser import HTMLParser
from typing import Any

import pytest

from sim.report.html.elements import Cell, Column, Row, Shown, Table
from sim.report.html.page import _environment
from sim.report.plots.style import Look

LOOK = Look("c1", "s", False, None)


class Tags(HTMLParser):
    """Collects the tags with their attributes, and the texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def shown_by(macro: str, *arguments: Any) -> Tags:
    module = _environment().get_template("elements.html.jinja").module
    return Tags(str(getattr(module, macro)(*arguments)))


def test_columns_of_numbers_are_aligned_in_head_and_rows() -> None:
    """The first cell of a row is its head, and a row has its own class."""
    table = Table([Column("who", number=False), Column("n")], [Row(["a", "1"], "oracle"), Row(["b", "2"])], "How many")
    found = shown_by("table", table)
    assert found.texts == ["How many", "who", "n", "a", "1", "b", "2"]
    assert [(each.get("class"), each["scope"]) for each in found.of("th")] == [
        *((None, "col"), ("n", "col"), (None, "row"), (None, "row")),
    ]
    assert found.of("td") == [{"class": "n"}] * 2
    assert [each.get("class") for each in found.of("tr")] == [None, "oracle", None]


@pytest.mark.parametrize(
    ("shown", "tags", "texts"),
    [
        ("<i>&", [], ["<i>&"]),
        (Cell("x", ["y", "z"]), ["small", "br"], ["x", "y", "z"]),
        (Cell("x", link="there", bold=True), ["b", "a"], ["x"]),
        (Cell("5e", code=True), ["code"], ["5e"]),
        (Cell("x", look=LOOK), ["svg", "path"], ["x"]),
        (Cell("x", ["y"], look_below=LOOK), ["small", "svg", "path"], ["x", "y"]),
        ([Cell("x"), Cell("y")], ["br"], ["x", "y"]),
    ],
)
def test_each_field_of_a_cell_is_shown(shown: Shown, tags: list[str], texts: list[str]) -> None:
    """Texts are escaped; the marker of a look below stands before the small lines."""
    found = shown_by("cell", shown)
    assert ([name for name, _ in found.tags], found.texts) == (tags, texts)


@pytest.mark.parametrize("verdict", ["ahead", "behind", "open", "equal", "one seed"])
def test_every_verdict_has_a_sign_that_explains_itself(verdict: str) -> None:
    """A title for those who point at it; none looks like another that means something else."""
    found = shown_by("cell", Cell("+0.1", verdict=verdict))
    (sign,) = found.of("span")
    assert sign["title"]
    assert (sign["class"] == "up", sign["class"] == "down") == (verdict == "ahead", verdict == "behind")
    assert len(found.texts[0]) == 1
