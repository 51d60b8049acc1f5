"""`hstu scenarios`: the scenarios as a table, and one of them explained in the terminal.

A curve is a line of block characters, one for each point: the lowest block is the least value, the highest the
greatest; both are named beside it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sim.scenarios.curves import Drawing, drawings
from sim.scenarios.facts import figures, parameters, size
from sim.scenarios.files import preset_names
from sim.scenarios.scenario import Scenario, load_scenario

BLOCKS: Final = "▁▂▃▄▅▆▇█"
STEADY: Final = 0.05  # a curve counts as flat if its range is a smaller share of its mean
_MARGINS: Final = 2 + 2 * 2  # left of a drawing, and between its columns
_NARROWEST: Final = 10


def print_list(console: Console) -> None:
    """Print the presets."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "what it is", "what drifts"):
        table.add_column(name, no_wrap=name == "name")
    table.add_column("events", justify="right", no_wrap=True)
    for name in preset_names():
        scenario = load_scenario(name)
        table.add_row(name, scenario.title, ", ".join(scenario.drifts()), size(scenario))
    console.print(table)
    console.print("hstu scenarios show NAME explains one; a scenario of your own is a .toml file like those.")


def print_scenario(console: Console, scenario: Scenario) -> None:
    """Explain a scenario."""
    console.print(Text(scenario.title, style="bold"))
    if scenario.description:
        console.print(" ".join(scenario.description.split()))
    console.print(_parameters(scenario))
    console.print(_figures(scenario))
    for drawing in drawings(scenario):
        console.print()
        console.print(_drawn(drawing, console.width))
    if moments := scenario.moments():
        texts = (f"{moment.name} from {moment.share:.0%} to {moment.until_share:.0%}" for moment in moments)
        console.print(f"\nIn shares of the event time: {', '.join(texts)}.")
    if scenario.remark:
        console.print(f"\n{scenario.remark}")


def _parameters(scenario: Scenario) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("table", no_wrap=True)
    table.add_column("key", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("meaning (dim: the default)")
    before = ""
    for parameter in parameters(scenario):
        name = "" if parameter.table == before else f"[{parameter.table}]"
        before = parameter.table
        texts = (name, parameter.key, parameter.value, parameter.meaning)
        table.add_row(*map(Text, texts), style="" if parameter.given else "dim")
    return table


def _figures(scenario: Scenario) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in figures(scenario):
        table.add_row(name, text)
    return table


def _drawn(drawing: Drawing, width: int) -> RenderableType:
    head = Text.assemble((drawing.title, "bold"), f"  {drawing.about}")
    if not any(map(_moves, (curve.y for curve in drawing.curves))):
        return Text.assemble(head, ("  Stands still.", "dim"))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    ranges = [f"{_range(curve.y)} {drawing.unit}".strip() for curve in drawing.curves]
    room = width - _MARGINS - max(map(len, ranges)) - max(len(curve.label) for curve in drawing.curves)
    for curve, text in zip(drawing.curves, ranges, strict=True):
        table.add_row(curve.label, Text(sparkline(curve.y, max(room, _NARROWEST)), style="cyan"), text)
    first, last = _number(drawing.x[0]), _number(drawing.x[-1])
    table.add_row("", Text(f"{drawing.x_label} {first} … {last}", style="dim"), "")
    return Group(head, Padding(table, (0, 0, 0, 2)))


def _range(y_X: NDArray[np.float64]) -> str:
    low, high = _number(float(y_X.min())), _number(float(y_X.max()))
    return low if low == high else f"{low} … {high}"


def sparkline(y_X: NDArray[np.float64], width: int = 60) -> str:
    """Return a curve in one line, a character for each point; at most `width` points, evenly chosen.

    >>> sparkline(np.array([0.0, 1.0, 2.0, 4.0]))
    '▁▂▄█'
    """
    if len(y_X) > width:
        y_X = y_X[np.linspace(0, len(y_X) - 1, width).astype(np.int64)]
    if not _moves(y_X):
        return BLOCKS[3] * len(y_X)
    low, high = float(y_X.min()), float(y_X.max())
    block_X = np.floor((y_X - low) / (high - low) * (len(BLOCKS) - 1e-9)).astype(np.int64)
    return "".join(BLOCKS[block] for block in block_X.tolist())


def _moves(y_X: NDArray[np.float64]) -> bool:
    low, high = float(y_X.min()), float(y_X.max())
    return high - low > STEADY * abs(high + low) / 2


def _number(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
