"""Plots by matplotlib's SVG backend, deterministic and fit for light and dark pages.

Text stays text, in the page's own font; colours become the CSS variables of style.py. Ids of clip paths and markers are
hashes salted with the plot's name (svg.hashsalt), so that many plots fit into one page; all other ids are removed.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from sim.report.plots.style import PALETTE, ink, variables

WIDTH_IN: Final = 4.7  # of every plot: the width of a phone, half that of a desktop page
_RC: Final[Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # part of matplotlib, so the layout is the same everywhere
    "font.size": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": ink("rule"),
    "axes.labelcolor": ink("muted"),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": ink("ink"),
    "grid.color": ink("rule"),
    "grid.linewidth": 0.6,
    "text.color": ink("ink"),
    "xtick.color": ink("muted"),
    "ytick.color": ink("muted"),
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "path.simplify": False,
    "text.parse_math": False,  # a dollar in a title is a dollar
}
_NO_METADATA: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_RULES: Final = "svg *{stroke-linejoin:round;stroke-linecap:butt}svg text{font-family:system-ui,sans-serif!important}"
_SVG: Final = "http://www.w3.org/2000/svg"
_XLINK: Final = "{http://www.w3.org/1999/xlink}href"  # in HTML and in SVG 2: href
_UNUSED: Final = (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")
ElementTree.register_namespace("", _SVG)


@dataclass(frozen=True)
class Plot:
    """One plot: its file name, what it shows in words, and the SVG element for a page that has the variables."""

    name: str
    caption: str
    svg: str

    @property
    def standalone(self) -> str:
        """The text of an .svg file with its own variables, font and background."""
        rules = (
            f":root{{{variables(0)}background:var(--paper)}}"
            f"@media (prefers-color-scheme:dark){{:root{{{variables(1)}}}}}{_RULES}"
        )
        return '<?xml version="1.0" encoding="utf-8"?>\n' + self.svg.replace(">", f"><style>{rules}</style>", 1) + "\n"


def draw(name: str, caption: str, height_in: float, paint: Callable[[Figure, Axes], None]) -> Plot:
    """Return the plot that `paint` draws on the axes of a figure."""
    with matplotlib.rc_context({**_RC, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        axes = figure.add_subplot()
        paint(figure, axes)
        buffer = io.StringIO()
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
    return Plot(own, caption, _for_page(buffer.getvalue(), caption))


def _for_page(text: str, caption: str) -> str:
    """Return matplotlib's SVG as an element of a page, with CSS variables as colours and no id that nothing uses."""
    for variable in PALETTE:
        text = text.replace(ink(variable), f"var(--{variable})")
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in _UNUSED]:
            parent.remove(child)
    for node in root.iter():
        if (target := node.attrib.pop(_XLINK, None)) is not None:
            node.set("href", target)
        if f"#{node.get('id')}" not in text:
            node.attrib.pop("id", None)
    view_box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": view_box, "role": "img", "aria-label": caption})
    return ElementTree.tostring(root, encoding="unicode")
