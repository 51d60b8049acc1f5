"""Drawings by matplotlib's SVG backend, made small, deterministic and fit for light and dark pages.

Text stays text in the page's own font; colours become the CSS variables of `report_looks`; ids carry the drawing's
name, so that many drawings live in one page; coordinates keep two decimals of a point.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from sim.report.plots.style import PALETTE, ink, variables

WIDTH_IN: Final = 4.7  # of every drawing: as wide as a phone, half as wide as a desk
_RC: Final[Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # matplotlib brings it: the layout is the same everywhere
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
_RULES: Final = "svg *{stroke-linejoin:round;stroke-linecap:butt}"


@dataclass(frozen=True)
class Plot:
    """One plot: its file name, what it shows in words, and the SVG element for a page that has the variables."""

    name: str
    caption: str
    svg: str

    @property
    def standalone(self) -> str:
        """Give the text of an .svg file: with variables, font and ground of its own."""
        rules = (
            f":root{{{variables(0)}font-family:system-ui,sans-serif;background:var(--paper)}}"
            f"@media (prefers-color-scheme:dark){{:root{{{variables(1)}}}}}{_RULES}"
        )
        return '<?xml version="1.0" encoding="utf-8"?>\n' + self.svg.replace(">", f"><style>{rules}</style>", 1) + "\n"


def draw(name: str, caption: str, height_in: float, paint: Callable[[Figure, Axes], None]) -> Plot:
    """Let `paint` draw on axes of a figure `height_in` high, and give what came of it."""
    with matplotlib.rc_context({**_RC, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        axes = figure.add_subplot()
        paint(figure, axes)
        buffer = io.StringIO()
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
    return Plot(own, caption, _tidy(buffer.getvalue(), own, caption))


def _tidy(text: str, name: str, caption: str) -> str:
    body = text[text.index("<svg") :]
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    for variable in PALETTE:
        body = body.replace(ink(variable), f"var(--{variable})")
    body = re.sub(r'\b(d|x|y|transform|points|width|height)="[^"]*"', _rounded, body)
    body = _ids(body, name)
    body = body.replace("font-family: 'DejaVu Sans'; ", "")
    body = re.sub(r' transform="rotate\(-?0 [^"]*"', "", body)
    body = re.sub(r">\s+<", "><", body).replace("<g/>", "").replace(" \n", " ").strip()
    label = f' role="img" aria-label="{escape(caption)}"'
    return re.sub(
        r'^<svg[^>]*viewBox="([^"]*)"[^>]*>', rf'<svg xmlns="http://www.w3.org/2000/svg" viewBox="\1"{label}>', body
    )


def _rounded(match: re.Match[str]) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), match[0])


def _ids(body: str, name: str) -> str:
    """Keep the ids that something refers to, with the drawing's name before them."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", body)
    for old in used:
        body = re.sub(rf'(id="|url\(#|href="#){re.escape(old)}(?=[)"])', rf"\g<1>{name}-{old}", body)
    return body
