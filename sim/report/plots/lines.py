"""Plots of one scenario: HR@10 over the stream, by item age, and over the variants of its contestants."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.data.item_age import SLICES
from sim.report.analysis.curves import LEAST_TARGETS, by_age, over_stream, regret_over_stream
from sim.report.analysis.results import Results
from sim.report.analysis.settings import varied
from sim.report.analysis.statistics import summary
from sim.report.analysis.text import percent
from sim.report.plots.style import Look, ink, looks
from sim.report.plots.svg import Plot, draw

_LABELLED: Final = 6  # moments; more get lines without letters
_TEXT: Final = 8  # points, of the names at the ends of lines


def line_style(look: Look) -> dict[str, Any]:
    """Return matplotlib's keywords for the line of a look."""
    dashes = (0, look.dash) if look.dash else "solid"
    return {"color": ink(look.colour), "linestyle": dashes, "linewidth": 1.8 if look.filled else 1.4}


def marker_style(look: Look) -> dict[str, Any]:
    """Return matplotlib's keywords for the marker of a look."""
    colour = ink(look.colour)
    face = colour if look.filled else ink("paper")
    size = 6.5 if look.marker == "*" else 4.8
    return {"marker": look.marker, "markerfacecolor": face, "markeredgecolor": colour, "markersize": size}


def percents(value: float, place: float | None = None) -> str:
    """Return the label of a tick on an axis of shares."""
    return f"{100 * value:.4g} %".replace("-", "−")


def stream_plot(results: Results, scenario: str, most_points: int = 50) -> Plot | None:
    """Plot HR@10 over the stream with a band over seeds and the moments marked."""
    points, size = over_stream(results, scenario, most_points)
    if points.is_empty():
        return None
    moments = _moments(results, scenario)
    seeds = int(points["seeds"].to_numpy().max())
    band = (
        "bands span the lowest and the highest seed" if seeds > 1 else "bands are Wilson's 95 % intervals of one seed"
    )
    pooled = "one hundredth" if size == 1 else f"{size} hundredths"
    caption = (
        f"HR@10 over the stream, {results.scenario_title(scenario)}. Each point pools {pooled} of the stream, at least "
        f"{int(points['targets'].to_numpy().min()):,} targets a run; lines are means over seeds, {band}."
    )
    if moments:
        caption += (
            " Marked: "
            + "; ".join(f"{_letter(i, moments)}{name} at {percent(at, 0)}" for i, (name, at, _) in enumerate(moments))
            + "."
        )

    title = "HR@10 over the stream"
    return _lines(results, scenario, points, "hr10", f"stream-{scenario}", title, caption, moments)


def regret_plot(results: Results, scenario: str) -> Plot | None:
    """Plot the regret a request over a closed loop."""
    points, size = regret_over_stream(results, scenario)
    if points.is_empty():
        return None
    caption = (
        f"Regret a request over the stream, {results.scenario_title(scenario)}: expected clicks of the best slate less "
        f"those of the slate shown. Each point pools {size} hundredths; lines are means over seeds, bands span them."
    )
    title = "Regret a request over the stream"
    return _lines(
        results, scenario, points, "regret", f"regret-{scenario}", title, caption, _moments(results, scenario)
    )


def _lines(
    results: Results,
    scenario: str,
    points: pl.DataFrame,
    metric: str,
    name: str,
    title: str,
    caption: str,
    moments: Sequence[tuple[str, float, float | None]],
) -> Plot:
    """Plot a line with a band for each contestant, and mark the moments."""

    def paint(figure: Figure, axes: Axes) -> None:
        faces = looks(results.runs)
        ends: list[End] = []
        for (contestant,), group in points.group_by("contestant", maintain_order=True):
            look, x, label = faces[str(contestant)], group["share"].to_numpy(), results.label(str(contestant), scenario)
            axes.fill_between(x, group["low"], group["high"], color=ink(look.colour), alpha=0.14, linewidth=0)
            axes.plot(x, group[metric], **line_style(look))
            ends.append(End(label, float(x[-1]), float(group[metric][-1]), ink(look.colour)))
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        _mark(axes, moments)
        axes.xaxis.set_major_formatter(percents)
        axes.set_xlabel("share of the stream" + _legend(moments))
        axes.set_title(title, pad=14 if moments else None)
        name_ends(axes, ends)

    return draw(name, caption, 3.1 + 0.12 * min(len(moments), _LABELLED), paint)


def _moments(results: Results, scenario: str) -> list[tuple[str, float, float | None]]:
    """Return name, share and end of each moment, means over seeds."""
    rows = results.moments.filter(pl.col("scenario") == scenario).group_by("name", maintain_order=True)
    found = rows.agg(pl.col("share").mean(), pl.col("until_share").mean()).sort("share", maintain_order=True)
    return [(str(name or "moment"), float(share), until) for name, share, until in found.iter_rows()]


def _letter(place: int, moments: Sequence[object]) -> str:
    return f"{chr(ord('A') + place)}: " if len(moments) <= _LABELLED else ""


def _legend(moments: Sequence[tuple[str, float, float | None]]) -> str:
    if len(moments) > _LABELLED:
        return ""
    return "".join(f"\n{_letter(i, moments)}{textwrap.shorten(name, 60)}" for i, (name, _, _) in enumerate(moments))


def _mark(axes: Axes, moments: Sequence[tuple[str, float, float | None]]) -> None:
    for place, (_, share, until) in enumerate(moments):
        axes.axvline(share, color=ink("ink"), linewidth=0.9, linestyle=(0, (4, 2)))
        if until is not None:
            axes.axvspan(share, min(until, 1), color=ink("muted"), alpha=0.12, linewidth=0)
        if len(moments) <= _LABELLED:
            height = axes.get_xaxis_transform()
            axes.text(
                share,
                1.01,
                _letter(place, moments)[0],
                transform=height,
                ha="center",
                va="bottom",
                fontsize=8,
                weight="bold",
            )


@dataclass(frozen=True)
class End:
    """The right end of a line, with the line's name and colour."""

    name: str
    x: float
    value: float
    colour: str


def name_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write names to the right of their lines' ends, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    gap, beyond = (high - low) * 0.052, right + 0.015 * (right - left)
    ends = sorted(ends, key=lambda end: (end.value, end.name))
    for end, y in zip(ends, spaced([end.value for end in ends], gap, low + gap / 2), strict=True):
        if abs(y - end.value) > gap / 4:
            axes.plot([end.x, beyond], [end.value, y], color=end.colour, linewidth=0.6, clip_on=False)
        place: dict[str, Any] = {
            "xytext": (7, 0),
            "textcoords": "offset points",
            "va": "center",
            "annotation_clip": False,
        }
        axes.annotate(end.name, (right, y), fontsize=_TEXT, color=end.colour, **place)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def spaced(values: Sequence[float], gap: float, least: float) -> list[float]:
    """Return ascending values moved apart by at least `gap`, as little as possible, none below `least`."""
    blocks: list[tuple[float, int]] = []  # sum of (value - place in the block * gap), how many

    def bottom(block: tuple[float, int]) -> float:
        return max(block[0] / block[1], least)

    for value in values:
        blocks.append((value, 1))
        while len(blocks) > 1 and bottom(blocks[-2]) + blocks[-2][1] * gap > bottom(blocks[-1]):
            total, many = blocks.pop()
            before, count = blocks.pop()
            blocks.append((before + total - many * count * gap, count + many))
    return [bottom(block) + place * gap for block in blocks for place in range(block[1])]


def ages_plot(results: Results, scenario: str) -> Plot | None:
    """Plot HR@10 by the age of the item at its request."""
    table = by_age(results, scenario)
    ages = [age for age in SLICES if age in set(table["age"])]
    if not ages:
        return None
    one = int(table["seeds"].to_numpy().max()) == 1
    caption = (
        f"HR@10 by the item's age at the request, {results.scenario_title(scenario)}; below each age its share of the "
        f"targets. Bars: 95 % intervals{', Wilson (one seed)' if one else ' over seeds'}. Fewer than {LEAST_TARGETS} "
        "targets a run: not shown."
    )
    if "unseen" not in ages:
        caption += " Items nobody had seen before cannot be hit and are left out."

    def paint(figure: Figure, axes: Axes) -> None:
        faces = looks(results.runs)
        ends: list[End] = []
        names = table["contestant"].unique().sort().to_list()
        for place, name in enumerate(names):
            rows = table.filter(pl.col("contestant") == name)
            x = np.array([ages.index(age) for age in rows["age"]]) + (place - (len(names) - 1) / 2) * 0.5 / len(names)
            y, low, high = (rows[column].to_numpy() for column in ("hr10", "low", "high"))
            look = faces[name]
            axes.vlines(x, low, high, color=ink(look.colour), linewidth=1.1)
            style: dict[str, Any] = line_style(look) | marker_style(look) | {"linewidth": 1.0}
            axes.plot(x, y, **style)
            ends.append(End(name, float(x[-1]), float(y[-1]), ink(look.colour)))
        shares = table.group_by("age").agg(pl.col("share").mean())
        share_of = dict(shares.iter_rows())
        axes.set_xticks(range(len(ages)), [f"{age}\n{percent(share_of[age], 0)}" for age in ages])
        axes.set_xlim(-0.5, len(ages) - 0.5)
        axes.set_ylim(bottom=0)
        axes.grid(visible=False, axis="x")
        axes.set_title("HR@10 by item age")
        name_ends(axes, ends)

    return draw(f"ages-{scenario}", caption, 3.1, paint)


def variants_plot(results: Results, scenario: str) -> Plot | None:
    """Plot HR@10 of every variant over the one number that varies; None if there is none."""
    rows = summary(results, every_variant=True).filter(
        pl.col("scenario") == scenario, pl.col("protocol") == "all", pl.col("variants") > 1
    )
    found = varied(results, scenario)
    if rows.is_empty() or found is None:
        return None
    setting, value_of = found
    caption = (
        f"HR@10 over the whole stream by {setting}, {results.scenario_title(scenario)}: means over seeds with 95 % "
        "intervals."
    )

    def paint(figure: Figure, axes: Axes) -> None:
        faces = looks(results.runs)
        ends: list[End] = []
        for (name,), group in rows.group_by("contestant"):
            name = str(name)
            points = sorted(
                (value_of[name, row["variant"]], row["hr10"], row["hr10_half"] or 0.0)
                for row in group.iter_rows(named=True)
            )
            x, y, half = (np.array(column) for column in zip(*points, strict=True))
            axes.vlines(x, y - half, y + half, color=ink(faces[name].colour), linewidth=1.1)
            axes.plot(x, y, **line_style(faces[name]), **marker_style(faces[name]))
            ends.append(End(name, float(x[-1]), float(y[-1]), ink(faces[name].colour)))
        _number_axis(axes, sorted(set(value_of.values())))
        axes.set_xlabel(setting)
        axes.set_ylim(bottom=max(axes.get_ylim()[0], 0))
        axes.set_title("HR@10 of every variant")
        name_ends(axes, ends)

    return draw(f"variants-{scenario}", caption, 2.8, paint)


def _number_axis(axes: Axes, values: Sequence[float]) -> None:
    """Set ticks at the values that occur; the axis is logarithmic where they span a factor of 4."""
    if values[0] > 0 and values[-1] / values[0] >= 4:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xticks([], minor=True)
