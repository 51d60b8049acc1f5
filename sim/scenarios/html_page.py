"""A scenario as one self-contained HTML page: the facts of `hstu scenarios show`, with the curves as SVG by matplotlib.

The page loads nothing, and the same scenario makes the same bytes.
"""

from io import StringIO
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from sim.errors import SimError
from sim.scenarios.curves import Drawing, drawings
from sim.scenarios.facts import figures, parameters
from sim.scenarios.scenario import Scenario, WorldScenario
from sim.world.drifts import Moment

COLOURS: Final = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)  # distinct for colour-blind readers too
_DRAWN: Final[dict[Any, Any]] = {
    "svg.hashsalt": "hstu",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
}
_TEMPLATE: Final = """
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ scenario.title }}</title>
<meta name="viewport" content="width=device-width"><style>
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem;line-height:1.2}h2{font-size:1.1rem;margin:2rem 0 0}
table{border-collapse:collapse;margin:1rem 0;font-size:.9rem}td,th{padding:.15rem .8rem .15rem 0;text-align:left;
vertical-align:top}tr.head th{border-bottom:1px solid #bbb}td.value{text-align:right;font-variant-numeric:tabular-nums}
tr.default{color:#888}svg{width:100%;height:auto}p{margin:.3rem 0}code{background:#f2f2f2;padding:.1rem .3rem}
</style></head>
<body><h1>{{ scenario.title }}</h1>
<p>{{ scenario.description.split() | join(" ") }}</p>
<table>{% for name, text in figures %}<tr><th>{{ name }}</th><td>{{ text }}</td></tr>{% endfor %}</table>
{% if scenario.remark %}<p>{{ scenario.remark }}</p>{% endif %}
{% for drawing, svg in drawings %}
<h2>{{ drawing.title }}</h2><p>{{ drawing.about }}</p>
{{ svg | safe }}
{% endfor %}
<h2>Parameters</h2><table>
<tr class="head"><th>table</th><th>key</th><th>value</th><th>meaning (grey: the default)</th></tr>
{% for one in parameters %}
<tr class="{{ "given" if one.given else "default" }}"><td>[{{ one.table }}]</td><td>{{ one.key }}</td>
<td class="value">{{ one.value }}</td><td>{{ one.meaning }}</td></tr>
{% endfor %}
</table>
<p><code>hstu replay --scenario {{ scenario.name }}</code> sends it into Kafka.</p>
</body></html>
"""


def write_page(path: Path, scenario: Scenario) -> None:
    """Write the page.

    Raises:
        SimError: The file cannot be written, or is there and no page.
    """
    try:
        if path.is_file() and path.read_bytes()[:2] not in (b"", b"<!"):
            raise SimError(f"{path} is there and no page, and would be overwritten; name another file by --html.")
        path.write_text(page(scenario), encoding="utf-8")
    except OSError as error:
        raise SimError(
            f"The page cannot be written to {path}: {error.strerror}; name another file by --html."
        ) from None


def page(scenario: Scenario) -> str:
    """Return the page; the template escapes every text."""
    marks = _marks(scenario)
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    return jinja.from_string(_TEMPLATE.lstrip()).render(
        scenario=scenario,
        figures=figures(scenario),
        drawings=[(drawing, svg(drawing, marks if drawing.x_label == "day" else [])) for drawing in drawings(scenario)],
        parameters=parameters(scenario),
    )


def _marks(scenario: Scenario) -> list[Moment]:
    """Return the moments in days."""
    if not isinstance(scenario, WorldScenario):
        return []
    days = scenario.settings.base.days
    return [Moment(name, share * days, until * days) for name, share, until in scenario.moments()]


def svg(drawing: Drawing, marks: list[Moment]) -> str:
    """Return the curves as an SVG element, with a dotted line at each moment."""
    with mpl.rc_context(_DRAWN):
        figure = Figure(figsize=(9, 2.8), layout="constrained")
        axes = figure.subplots()
        style = "o-" if len(drawing.x) <= 20 else "-"
        for place, curve in enumerate(drawing.curves):
            axes.plot(drawing.x, curve.y, style, color=COLOURS[place % len(COLOURS)], label=curve.label, linewidth=1.6)
        for mark in marks:
            axes.axvline(mark.share, color="#666", linewidth=0.8, linestyle=":")
            axes.annotate(mark.name, (mark.share, 1), xycoords=("data", "axes fraction"), fontsize=8, color="#666")
        axes.set_xlabel(drawing.x_label)
        axes.set_ylabel(drawing.unit)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        if len(drawing.curves) > 1:
            axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
