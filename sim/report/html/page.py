"""The page: the answer first, then each scenario, the costs, and what it takes to run everything again."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any, Final

import polars as pl

from sim.report.analysis.remarks import remarks
from sim.report.analysis.results import PROTOCOLS, Results
from sim.report.analysis.statistics import gaps, tuned
from sim.report.analysis.text import answer, plural
from sim.report.html.elements import Column, bullets, figure, figures, folded, paragraph, section, table
from sim.report.html.recovery import recovery_section
from sim.report.html.settings import settings_tables
from sim.report.html.tables import answer_table, costs_table, grid_table, regret_table, runs_table, scenario_table
from sim.report.plots import drawings, scenario_drawings
from sim.report.plots.heatmap import gap_maps
from sim.report.plots.style import variables
from sim.report.plots.svg import Plot

FEW: Final = 4  # scenarios whose every table is open
MANY: Final = 8  # with more, plots of single scenarios fold


def page(results: Results, against: str = "softmax") -> str:
    """Give the whole HTML text."""
    preset = results.about.get("preset")
    title = f"hstu compare: {preset}" if preset else "hstu compare"
    parts = [
        _header(results, title),
        _missing(results),
        _answer(results, against),
        _over_all(results, against),
        *(_scenario(results, scenario, against) for scenario in results.scenarios),
        _costs(results),
        _reproduce(results),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>\n'
        f"<style>{style()}</style></head>\n"
        f"<body><main>\n{''.join(parts)}</main></body></html>\n"
    )


def style() -> str:
    """Give the CSS: colours as variables, light and dark, and page.css."""
    return (
        f":root{{{variables(0)}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{variables(1)}}}}}\n"
        + files("sim.report.html").joinpath("page.css").read_text(encoding="utf-8")
    )


def _header(results: Results, title: str) -> str:
    runs = results.runs
    facts = [
        plural(runs.height, "run"),
        plural(runs["scenario"].n_unique(), "scenario"),
        plural(runs["contestant"].n_unique(), "contestant"),
        f"seed{'s' if runs['seed'].n_unique() > 1 else ''} {', '.join(map(str, runs['seed'].unique().sort()))}",
        str(results.about.get("finished") or results.about.get("started") or ""),
    ]
    return f"<header><h1>{escape(title)}</h1>{paragraph(' · '.join(filter(None, facts)), 'facts')}</header>\n"


def _missing(results: Results) -> str:
    if not results.missing:
        return ""
    return f'<aside class="missing"><h2>What is missing</h2>{bullets(results.missing)}</aside>\n'


def _answer(results: Results, against: str) -> str:
    first, *rest = answer(results, against)
    return section(
        "answer",
        "The answer",
        paragraph(first, "lead"),
        bullets(rest) if len(rest) <= FEW else folded("Each scenario in a sentence", bullets(rest)),
        _figures(gap_maps(results, against)),
        answer_table(results, against),
        _how(results, against),
    )


def _how(results: Results, against: str) -> str:
    notes = [
        "± and brackets: 95 % intervals of the mean over seeds by Student's t; every seed weighs the same. One seed "
        "has no interval.",
        f"Gaps to {against} are taken within each seed, on the same examples, then averaged; per cent are of "
        f"{against}'s mean. ▲ ▼: the interval excludes 0; ≈: it includes 0.",
    ]
    found = gaps(results, against).filter((pl.col("metric") == "hr10") & pl.col("half").is_not_null()).height
    if found >= 20:
        notes.append(
            f"The tables hold {found} intervals of gaps: of contestants that are truly equal about one in twenty would "
            "exclude 0 by chance."
        )
    return bullets([*notes, *_choices(results)], "notes")


def _choices(results: Results) -> list[str]:
    """Say for whom a variant was chosen on the figures shown."""
    chosen = tuned(results.runs)
    many = (
        chosen.group_by("contestant", maintain_order=True).agg(pl.col("variants").max()).filter(pl.col("variants") > 1)
    )
    if many.is_empty():
        return []
    names = ", ".join(f"{name} ({variants})" for name, variants in many.iter_rows())
    note = (
        f"Of contestants with several variants the tables show the best by mean HR@10: {names}. The choice was made on "
        "the same figures, which flatters them a little; every variant is below."
    )
    neural = results.runs.filter(pl.col("kind") == "neural").select("scenario", "contestant").unique()
    uneven = chosen.join(neural, on=["scenario", "contestant"]).group_by("scenario").agg(pl.col("variants").n_unique())
    if (uneven["variants"] > 1).any():
        note += " Neural contestants had unequal numbers of variants to choose from, so gaps favour those with more."
    return [note]


def _over_all(results: Results, against: str) -> str:
    """Show gaps and fractions over all scenarios; gaps by the other protocols fold."""
    found = drawings(results, against)
    if not found:
        return ""
    first = [drawing for drawing in found if drawing.name.startswith(("gaps-all", "oracle"))]
    rest = [drawing for drawing in found if drawing not in first]
    more = folded("Gaps by the other protocols and at equal settings", _figures(rest)) if rest else ""
    return section("gaps", "Over all scenarios", _figures(first), more)


def _figures(found: Sequence[Plot]) -> str:
    return figures(figure(drawing.svg, drawing.caption) for drawing in found) if found else ""


def _scenario(results: Results, scenario: str, against: str) -> str:
    place = results.scenarios.index(scenario) + 1
    tables = {protocol: scenario_table(results, scenario, protocol, against) for protocol in PROTOCOLS}
    few = len(results.scenarios) <= FEW
    first = tables.pop("all")
    parts = [
        regret_table(results, scenario, against) or first,
        bullets(remarks(results, scenario), "notes"),
        recovery_section(results, scenario),
    ]
    curves = _figures(scenario_drawings(results, scenario))
    parts.insert(2, curves if len(results.scenarios) <= MANY else folded("Plots", curves))
    titles = {"late": "The last 10 % of the stream", "frozen": "Frozen at 90 %, tested on the last 10 %"}
    parts += [folded(titles[protocol], text, unfold=few) for protocol, text in tables.items() if text]
    if tuned(results.runs).filter(pl.col("scenario") == scenario)["variants"].max() != 1:
        parts.append(folded("Every variant", grid_table(results, scenario)))
    return section(f"scenario-{place}", results.scenario_title(scenario), *parts)


def _costs(results: Results) -> str:
    few = len(results.scenarios) <= FEW
    parts = [
        paragraph(
            "Means over runs, CPU seconds of the process. Test: ranking, and the passes that a frozen test or one at "
            "requests takes by itself; train: all that is left but making the events. Tokens a second are of training."
        )
    ]
    parts.append(costs_table(results, by_scenario=few))
    if not few:
        parts.append(folded("By scenario", costs_table(results, by_scenario=True)))
    return section("costs", "Costs", *parts)


def _reproduce(results: Results) -> str:
    about = dict(results.about)
    command = about.pop("command", None)
    text = " ".join(map(str, command)) if isinstance(command, list) else str(command or "")
    facts = [[escape(name), escape(value)] for name, value in _leaves(about)]
    columns = [Column("", number=False), Column("", number=False)]
    return section(
        "reproduce",
        "Run it again",
        f"<pre><code>{escape(text)}</code></pre>\n" if text else "",
        table(columns, facts) if facts else "",
        folded("Settings", settings_tables(results)),
        folded(f"All {plural(results.runs.height, 'run')} with their digests", runs_table(results), look="bulk"),
    )


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Flatten nested JSON into dotted names and texts."""
    if isinstance(value, dict) and value:
        return [leaf for key, part in value.items() for leaf in _leaves(part, f"{path}.{key}" if path else str(key))]
    return [(path, ", ".join(map(str, value)) if isinstance(value, list) else str(value))]
