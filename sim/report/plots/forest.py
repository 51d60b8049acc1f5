"""Forest plots, points with intervals in rows: gaps over scenarios and variants, fractions of the upper bound."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from sim.report.analysis.results import PROTOCOLS, Results
from sim.report.analysis.statistics import gaps, summary
from sim.report.analysis.text import percent
from sim.report.plots.lines import marker_style, percents
from sim.report.plots.style import Look, ink, looks
from sim.report.plots.svg import Plot, draw

ROW_IN: Final = 0.185
MOST_ROWS: Final = 60  # of one plot
_HEADING: Final = 58  # letters of a title in one line
_SHORT: Final = {"all": "whole stream", "late": "last {late} of the stream", "frozen": "weights frozen at {before}"}


@dataclass(frozen=True)
class Point:
    """One row: the contestant, its label, its value, and its interval if there is one."""

    contestant: str
    label: str
    value: float
    low: float | None
    high: float | None


Groups = Mapping[str, Sequence[Point]]  # title of the scenario to its points


def gap_forest(results: Results, protocol: str, against: str = "softmax") -> list[Plot]:
    """Plot the neural contestants' gaps to `against` in HR@10, in per cent of its mean, by scenario."""
    rows = gaps(results, against).filter(
        pl.col("kind") == "neural", pl.col("metric") == "hr10", pl.col("protocol") == protocol
    )
    title = f"HR@10 against {against}, {results.in_words(_SHORT[protocol])}"
    caption = (
        f"Neural contestants' HR@10 less {against}'s, in per cent of {against}'s mean; "
        f"{results.in_words(PROTOCOLS[protocol])}. "
        "Bars: 95 % intervals of the differences, paired by seed; no bar: one seed."
    )
    return _forests(f"gaps-{protocol}", title, caption, results, _relative(rows, with_variant=False), 0.0, sign=True)


def variant_forest(results: Results, against: str = "softmax") -> list[Plot]:
    """Plot the gaps of every variant to the same variant of `against`, where there are several."""
    rows = gaps(results, against, same_variant=True).filter(
        pl.col("kind") == "neural", pl.col("metric") == "hr10", pl.col("protocol") == "all"
    )
    rows = rows.filter(pl.col("variant").n_unique().over("scenario", "contestant") > 1)
    title = f"HR@10 against {against} at equal settings, whole stream"
    caption = (
        f"Neural contestants' HR@10 less that of {against} with the same variant's settings, in per cent of its mean, "
        "over the whole stream. Bars: 95 % intervals of the differences, paired by seed."
    )
    return _forests("gaps-variants", title, caption, results, _relative(rows, with_variant=True), 0.0, sign=True)


def _relative(rows: pl.DataFrame, *, with_variant: bool) -> dict[str, list[Point]]:
    groups: dict[str, list[Point]] = {}
    order = rows.with_row_index("place").with_columns(pl.col("place").min().over("scenario"))
    for row in order.drop_nulls("relative").sort("place", "contestant", "variant").iter_rows(named=True):
        label = f"{row['contestant']}, {row['variant'] or 'as the preset'}" if with_variant else row["contestant"]
        point = Point(row["contestant"], label, row["relative"], row["relative_low"], row["relative_high"])
        groups.setdefault(row["scenario_title"], []).append(point)
    return groups


def oracle_forest(results: Results) -> list[Plot]:
    """Plot the fraction of the upper bound's HR@10 that each contestant reaches over the whole stream."""
    rows = summary(results).filter(pl.col("protocol") == "all", pl.col("kind") != "oracle").drop_nulls("of_oracle")
    groups: dict[str, list[Point]] = {}
    for row in rows.iter_rows(named=True):
        value, half = row["of_oracle"], row["of_oracle_half"]
        low, high = (None, None) if half is None else (value - half, value + half)
        groups.setdefault(row["scenario_title"], []).append(
            Point(row["contestant"], row["contestant"], value, low, high)
        )
    name = " or ".join(results.upper_bounds())
    caption = (
        f"HR@10 over the whole stream as a fraction of that of the {name}, seed by seed. Bars: 95 % intervals over "
        f"seeds, without sampling errors of the {name}."
    )
    return _forests("oracle", f"HR@10 as a fraction of the {name}", caption, results, groups, 1.0, sign=False)


def _forests(
    name: str, title: str, caption: str, results: Results, groups: Groups, origin: float, *, sign: bool
) -> list[Plot]:
    """Return as many forest plots as keep each below MOST_ROWS, all on one scale."""
    sheets: list[dict[str, Sequence[Point]]] = [{}]
    for scenario, points in groups.items():
        if sheets[-1] and sum(len(found) + 1 for found in (*sheets[-1].values(), points)) > MOST_ROWS:
            sheets.append({})
        sheets[-1][scenario] = points
    limits = _limits([point for points in groups.values() for point in points], origin)
    faces = looks(results.runs)
    plots = []
    for place, sheet in enumerate(filter(None, sheets)):
        own = name if place == 0 else f"{name}-{place + 1}"
        plots.append(_forest(own, title, caption, sheet, faces, limits, origin, sign=sign))
    return plots


def _limits(points: Sequence[Point], origin: float) -> tuple[float, float]:
    """Return the limits of the axis: all values, and as much of the intervals as leaves the values readable."""
    values = [point.value for point in points]
    low, high = min([*values, 0.0]), max([*values, origin])
    room = max(high - low, 1e-3)
    ends = [end for point in points for end in (point.low, point.high) if end is not None]
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    edge = max(0.04 * (high - low), 0.005)
    return low - edge, high + edge


def _forest(
    name: str, title: str, caption: str, groups: Groups, faces: Mapping[str, Look], limits: tuple[float, float],
    origin: float, *, sign: bool,
) -> Plot:  # fmt: skip
    headings = {scenario: textwrap.wrap(scenario, _HEADING) for scenario in groups}
    rows = sum(len(points) for points in groups.values()) + sum(map(len, headings.values()))

    def paint(figure: Figure, axes: Axes) -> None:
        ticks: list[tuple[float, str, str]] = []
        y = -1.0
        for scenario, points in groups.items():
            for line in headings[scenario]:
                y += 1
                _paint_heading(figure, axes, y, line)
            for point in points:
                y += 1
                _paint_point(axes, point, y, faces[point.contestant], limits)
                ticks.append((y, point.label, percent(point.value, sign=sign)))
            y += 0.15
        axes.axvline(origin, color=ink("ink"), linewidth=0.9)
        axes.set_xlim(*limits)
        axes.set_ylim(y + 0.6, -0.7)
        axes.set_yticks([place for place, _, _ in ticks], [label for _, label, _ in ticks])
        for place, _, text in ticks:
            axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center_baseline", fontsize=8)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(percents)
        axes.set_title(title, loc="left")

    return draw(name, caption, 0.75 + ROW_IN * (rows + 0.15 * len(groups)), paint)


def _paint_heading(figure: Figure, axes: Axes, y: float, line: str) -> None:
    """Write a scenario's title from the left edge, on a background that hides the grid."""
    place = blended_transform_factory(figure.transFigure, axes.transData)
    ground = {"facecolor": ink("paper"), "edgecolor": "none", "pad": 1.5}
    text = axes.text(0.01, y, line, transform=place, va="center", fontsize=8, weight="bold", bbox=ground)
    text.set_in_layout(False)


def _paint_point(axes: Axes, point: Point, y: float, look: Look, limits: tuple[float, float]) -> None:
    if point.low is not None and point.high is not None:
        axes.hlines(y, max(point.low, limits[0]), min(point.high, limits[1]), color=ink(look.colour), linewidth=1.6)
        for end, marker in ((point.low, "<"), (point.high, ">")):
            if not limits[0] <= end <= limits[1]:  # continues beyond the plot
                at = limits[0] if marker == "<" else limits[1]
                axes.plot([at], [y], marker=marker, color=ink(look.colour), markersize=3.5, clip_on=False)
    axes.plot([point.value], [y], linestyle="none", **marker_style(look))
