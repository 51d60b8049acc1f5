"""A scenario as a page."""

import re
from pathlib import Path

import pytest

from sim.errors import SimError
from sim.scenarios.html_page import page, write_page
from sim.scenarios.scenario import load_scenario
from tests.sim.scenarios.commands import SMALL, hstu


def test_the_page_stands_alone(tmp_path: Path) -> None:
    """It loads nothing, has a plot for each drawing and its moments, and is the same each time."""
    path = tmp_path / "page.html"
    hstu("scenarios", "show", "everything", *SMALL, "--html", str(path))
    text = path.read_text()
    assert text == page(load_scenario("everything").with_(events=3_000))
    assert text.count("<svg") == 6
    assert not re.search(r"<(script|link|img)\b|@import|src=", text)
    assert (
        not set(re.findall(r"https?://[^\"/]+", text))
        - {"http://www.w3.org", "http://purl.org", "https://matplotlib.org"}
        - {"http://creativecommons.org"}
    )
    for word in ("shock 1", "taste 2", "Popularity of the head", "half_life_d", "All drifts at once"):
        assert word in text
    with pytest.raises(SimError, match=r"page cannot be written to .*; name another file by --html"):
        hstu("scenarios", "show", "growth", *SMALL, "--html", str(tmp_path / "none" / "page.html"))


def test_no_other_file_is_overwritten(tmp_path: Path) -> None:
    """The scenario's own, for instance; an older page is."""
    path = tmp_path / "mine.toml"
    path.write_text("# mine\n")
    with pytest.raises(SimError, match=r"mine\.toml is there and no page, .*name another file by --html"):
        write_page(path, load_scenario("growth"))
    assert path.read_text() == "# mine\n"
    path.write_text("<!doctype html>\nold")
    write_page(path, load_scenario("growth").with_(events=3_000))
    assert path.read_text().startswith("<!doctype html>\n<html")
