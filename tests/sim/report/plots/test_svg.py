"""Plots as files of their own."""

import re
from pathlib import Path
from xml.etree import ElementTree

from sim.report import save_figures


def test_drawings_stand_alone(whole: Path) -> None:
    """Each file is XML of its own with its colours for light and dark, and text that is text."""
    paths = save_figures(whole, whole / "figures")
    assert {path.name for path in paths} == {
        *(f"{kind}-{scenario}.svg" for kind in ("stream", "ages", "variants") for scenario in "ab"),
        *("gaps-all.svg", "gaps-late.svg", "oracle.svg"),
    }
    for path in paths:
        text = path.read_text()
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert set(re.findall(r"var\(--(\w+)\)", text)) <= set(re.findall(r"--(\w+):", text))
        assert "prefers-color-scheme:dark" in text
        assert "#fe0" not in text
        assert any(node.text for node in root.iter("{http://www.w3.org/2000/svg}text"))
