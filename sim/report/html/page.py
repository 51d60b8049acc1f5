"""The page: the answer first, then each scenario, the costs, and what it takes to run everything again.

This file gathers what is shown; templates/page.html.jinja says where it stands and how it looks.
"""

from functools import cache
from typing import Any, Final

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from sim.report.analysis.advice import advice
from sim.report.analysis.results import PROTOCOLS, Results
from sim.report.analysis.settings import flat
from sim.report.analysis.statistics import gaps, tuned
from sim.report.analysis.text import answer, plural, remarks
from sim.report.html.clicks import click_tables
from sim.report.html.elements import Column, Row, Table
from sim.report.html.recovery import recovery_of
from sim.report.html.settings import settings_tables
from sim.report.html.tables import (
    advice_table,
    ages_table,
    answer_table,
    costs_table,
    grid_table,
    regret_table,
    runs_table,
    scenario_table,
    section_id,
)  # fmt: skip
from sim.report.plots import overall_plots, scenario_plots
from sim.report.plots.heatmap import gap_maps
from sim.report.plots.style import variables

FEW: Final = 4  # scenarios whose every table is open
MANY: Final = 8  # with more, plots of single scenarios fold
_TITLES: Final = {"late": "The last {late} of the stream", "frozen": "Frozen at {before}, tested on the last {late}"}


def page(results: Results) -> str:
    """Return the whole HTML text."""
    against = results.against
    preset = results.about.get("preset")
    forests = overall_plots(results, against)
    first = [plot for plot in forests if plot.name.startswith(("gaps-all", "oracle"))]
    return _environment().get_template("page.html.jinja").render(
        title=f"hstu compare: {preset}" if preset else "hstu compare",
        light=variables(0),
        dark=variables(1),
        few=FEW,
        many=MANY,
        facts=_facts(results),
        missing=results.missing,
        choice=_choice(results),
        answer=_answer(results, against),
        forests=first,
        more_forests=[plot for plot in forests if plot not in first],
        scenarios=[_scenario(results, place, against) for place in range(1, len(results.scenarios) + 1)],
        costs=costs_table(results, by_scenario=False),
        costs_by_scenario=costs_table(results, by_scenario=True),
        settings=settings_tables(results),
        runs=runs_table(results),
        **_about(results),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    loader = PackageLoader("sim.report.html")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _facts(results: Results) -> list[str]:
    runs = results.runs
    facts = [
        plural(runs.height, "run"),
        plural(runs["scenario"].n_unique(), "scenario"),
        plural(runs["contestant"].n_unique(), "contestant"),
        f"seed{'s' if runs['seed'].n_unique() > 1 else ''} {', '.join(map(str, runs['seed'].unique().sort()))}",
        str(results.about.get("finished") or results.about.get("started") or ""),
    ]
    return [fact for fact in facts if fact]


def _answer(results: Results, against: str) -> dict[str, Any]:
    lead, *each = answer(results, against)
    return {
        "lead": lead,
        "each": each,
        "maps": gap_maps(results, against),
        "table": answer_table(results, against),
        "notes": [*_notes(results, against), *_choices(results)],
    }


def _choice(results: Results) -> dict[str, Any] | None:
    found = advice(results)
    if found is None:
        return None
    table = advice_table(results, found) if found.standings else None
    return {"sentences": found.sentences, "table": table, "toml": found.toml, "toml_title": found.toml_title}


def _notes(results: Results, against: str) -> list[str]:
    notes = [
        "± and brackets: 95 % intervals of the mean over seeds by Student's t; every seed weighs the same. One seed "
        "has no such interval.",
        f"Gaps to {against} are taken within each seed, on the same examples, then averaged; per cent are of "
        f"{against}'s mean. ▲ ▼: the interval excludes 0; ≈: it includes 0.",
    ]
    if advice(results) is not None:
        notes.append(
            "The intervals of What to choose are of another kind, over hundredths of the stream's last part: what "
            "another stretch would bring, not what another seed would."
        )
    found = gaps(results, against).filter((pl.col("metric") == "hr10") & pl.col("half").is_not_null()).height
    if found >= 20:
        notes.append(
            f"The tables hold {found} intervals of gaps: of contestants that are truly equal about one in twenty would "
            "exclude 0 by chance."
        )
    return notes


def _choices(results: Results) -> list[str]:
    """Return a note on the contestants whose variant was chosen on the figures shown."""
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


def _scenario(results: Results, place: int, against: str) -> dict[str, Any]:
    scenario = results.scenarios[place - 1]
    titles = {protocol: results.in_words(title) for protocol, title in _TITLES.items()}
    tables = {protocol: scenario_table(results, scenario, protocol, against) for protocol in PROTOCOLS}
    several = tuned(results.runs).filter(pl.col("scenario") == scenario)["variants"].max() != 1
    return {
        "id": section_id(place),
        "title": results.scenario_title(scenario),
        "table": regret_table(results, scenario, against) or tables["all"],
        "remarks": remarks(results, scenario),
        "plots": scenario_plots(results, scenario),
        "ages": ages_table(results, scenario),
        "clicks": click_tables(results, scenario),
        "recovery": recovery_of(results, scenario),
        "protocols": [(titles[protocol], tables[protocol]) for protocol in titles if tables[protocol]],
        "variants": grid_table(results, scenario) if several else None,
    }


def _about(results: Results) -> dict[str, Any]:
    about = dict(results.about)
    command = about.pop("command", None)
    columns = [Column("", number=False), Column("", number=False)]
    rows = [
        Row([name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)])
        for name, value in flat(about).items()
    ]
    return {
        "command": " ".join(map(str, command)) if isinstance(command, list) else str(command or ""),
        "about": Table(columns, rows) if rows else None,
    }
