"""Heat maps of the gap over two settings of the scenarios (growth by alpha), one for each value of the others.

A map is plotted where two or more settings have several values over scenarios that agree in everything else. Blue: the
contestant leads; orange: the other one leads; a deeper colour is a larger gap. Bold: the interval excludes 0.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sim.report.analysis.results import Results
from sim.report.analysis.settings import is_number, leaves
from sim.report.analysis.statistics import gaps
from sim.report.analysis.text import NOTHING, contestant_in_question, percent
from sim.report.plots.style import ink
from sim.report.plots.svg import Plot, draw

_FIRST: Final = ("growth", "initial", "alpha", "alpha_high", "records")  # rows, columns, sheets of a map
_NOT_AXES: Final = ("seed", "scenario", "name", "title", "world", "source")  # world, source: digests
_DEEPEST: Final = 0.7  # opacity of the largest gap

Cell = tuple[float, ...]


@dataclass(frozen=True)
class Axis:
    """A setting in which scenarios differ, and its values."""

    setting: str
    values: tuple[float, ...]

    @property
    def title(self) -> str:
        """The last part of its name."""
        return self.setting.split(".")[-1].replace("_", " ")


def axes_of(results: Results) -> tuple[tuple[Axis, ...], dict[Cell, str]]:
    """Return the axes, rows and columns first, and the scenario of each cell; no axes where there is no grid."""
    settings = {scenario: _settings(results, scenario) for scenario in results.scenarios}
    names = sorted({name for found in settings.values() for name in found})
    numeric = [name for name in names if _varies(settings, name)]
    chosen = sorted((name for name in numeric if _last(name) in _FIRST), key=lambda name: _FIRST.index(_last(name)))
    chosen += [name for name in numeric if name not in chosen]
    rest = {
        scenario: tuple(
            (name, str(found.get(name))) for name in names if name not in chosen and _last(name) not in _NOT_AXES
        )
        for scenario, found in settings.items()
        if all(is_number(found.get(name)) for name in chosen)
    }
    if len(chosen) < 2 or not rest:
        return (), {}
    alike = Counter(rest.values()).most_common(1)[0][0]
    cells = {tuple(float(settings[s][name]) for name in chosen): s for s, found in rest.items() if found == alike}
    axes = tuple(Axis(name, tuple(sorted({cell[i] for cell in cells}))) for i, name in enumerate(chosen))
    if sum(len(axis.values) > 1 for axis in axes[:2]) < 2:
        return (), {}
    return axes, cells


def _settings(results: Results, scenario: str) -> dict[str, Any]:
    """Return the settings that all runs of a scenario share."""
    texts = results.runs.filter(pl.col("scenario") == scenario)["settings"].unique(maintain_order=True)
    found = [leaves(text) for text in texts if text]
    if not found:
        return {}
    return {name: value for name, value in found[0].items() if all(other.get(name) == value for other in found)}


def _varies(settings: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    values = {found[name] for found in settings.values() if is_number(found.get(name))}
    return len(values) > 1 and _last(name) not in _NOT_AXES


def _last(name: str) -> str:
    return name.split(".")[-1]


def gap_maps(results: Results, against: str = "softmax") -> list[Plot]:
    """Plot a map for each neural contestant and each sheet (values of the axes beyond two)."""
    axes, cells = axes_of(results)
    if not axes:
        return []
    rows = gaps(results, against).filter(
        pl.col("kind") == "neural",
        pl.col("metric") == "hr10",
        pl.col("protocol") == "all",
        pl.col("scenario").is_in(list(cells.values())),
    )
    deepest = max((abs(value) for value in rows["relative"].drop_nulls()), default=0.0) or 1.0
    return list(_maps(results, rows, axes, cells, against, deepest))


def _maps(
    results: Results, rows: pl.DataFrame, axes: Sequence[Axis], cells: Mapping[Cell, str], against: str, deepest: float
) -> Iterator[Plot]:
    sheets = list(product(*(axis.values for axis in axes[2:])))
    first = contestant_in_question(results, against)
    for contestant in sorted(rows["contestant"].unique(), key=lambda name: (name != first, name)):
        gap_of = {row["scenario"]: row for row in rows.filter(pl.col("contestant") == contestant).iter_rows(named=True)}
        for sheet in sheets:
            here = {cell[:2]: gap_of[s] for cell, s in cells.items() if s in gap_of and cell[2:] == sheet}
            if not here:
                continue
            named = [(axis.title, value) for axis, value in zip(axes[2:], sheet, strict=True)]
            where = "".join(f", {title} {value:,g}" for title, value in named)
            name = "-".join([f"map-{contestant}", *(f"{title.replace(' ', '-')}-{value:g}" for title, value in named)])
            caption = (
                f"{results.title(contestant)} less {results.title(against)} in HR@10 over the whole stream, in per "
                f"cent of the latter, by {axes[0].title} and {axes[1].title}{where}. Blue: {contestant} leads; orange: "
                f"{against} does. Bold: the 95 % interval excludes 0; ≈: it does not; ·: one seed."
            )
            yield _map(name, f"{contestant} − {against}, HR@10{where}", caption, axes, here, deepest)


def _map(
    name: str, title: str, caption: str, axes: Sequence[Axis], gap_of: Mapping[Cell, Mapping[str, Any]], deepest: float
) -> Plot:
    rows, columns = axes[0].values, axes[1].values

    def paint(figure: Figure, plot: Axes) -> None:
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                _paint_cell(plot, x, y, gap_of.get((row, column)), deepest)
        plot.set_xlim(-0.5, len(columns) - 0.5)
        plot.set_ylim(-0.5, len(rows) - 0.5)
        plot.set_xticks(range(len(columns)), [f"{value:,g}" for value in columns])
        plot.set_yticks(range(len(rows)), [f"{value:,g}" for value in rows])
        plot.grid(visible=False)
        plot.spines[["left", "bottom"]].set_visible(False)
        plot.set_xlabel(axes[1].title)
        plot.set_ylabel(axes[0].title)
        plot.set_title(title)

    return draw(name, caption, 0.85 + 0.42 * len(rows), paint)


def _paint_cell(plot: Axes, x: int, y: int, gap: Mapping[str, Any] | None, deepest: float) -> None:
    if gap is None or gap["relative"] is None:
        plot.text(x, y, NOTHING, ha="center", va="center", color=ink("muted"))
        return
    side, depth = ("c0" if gap["relative"] > 0 else "c1"), abs(gap["relative"]) / deepest
    place = (x - 0.47, y - 0.45)
    plot.add_patch(Rectangle(place, 0.94, 0.9, facecolor=ink(side), alpha=_DEEPEST * depth, edgecolor="none"))
    told = gap["verdict"] in ("ahead", "behind")
    mark = {"open": "≈ ", "one seed": "· "}.get(gap["verdict"], "")
    plot.text(
        x, y, mark + percent(gap["relative"], sign=True), ha="center", va="center", weight="bold" if told else "normal"
    )
