"""The generated pages are those of this code."""

import pytest

from tests.reference.pages import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    """What the code says now is what the page says."""
    written = (FOLDER / name).read_text()
    assert written == PAGES[name](), f"docs/reference/{name} is out of date: run `make reference`"


def test_there_are_no_other_pages() -> None:
    """A page that nothing makes any more is removed."""
    assert {path.name for path in FOLDER.iterdir()} == PAGES.keys()
