"""The tables of the report: the answer, each scenario, costs, and every run."""

from collections.abc import Mapping
from html import escape
from typing import Any, Final

import polars as pl

from sim.report.analysis.costs import costs
from sim.report.analysis.results import BRIEF, METRIC_TITLES, METRICS, PROTOCOLS, Results
from sim.report.analysis.statistics import gaps, regrets, summary
from sim.report.analysis.text import NOTHING, count, interval, number, percent, signed, spread, subject
from sim.report.html.elements import Column, Row, table
from sim.report.plots.style import looks, swatch

_SIGNS: Final = {
    "ahead": '<span class="up" title="the interval excludes 0">▲</span>',
    "behind": '<span class="down" title="the interval excludes 0">▼</span>',
    "open": '<span class="open" title="the interval includes 0">≈</span>',
    "equal": '<span class="open" title="equal on every seed">=</span>',
    "one seed": '<span class="open" title="one seed: no interval">·</span>',
}


def contestant(results: Results, name: str, scenario: str, variant: str = "") -> str:
    """Show who it is: marker, title, and below it the name in plots, with the variant."""
    below = escape(results.label(name, scenario)) + (f" · {escape(variant)}" if variant else "")
    return f"{swatch(looks(results.runs)[name])}{escape(results.title(name, scenario))}<small>{below}</small>"


def figure(mean: float | None, half: float | None, *, digits: int = 4) -> str:
    """Show a mean with half its interval below it."""
    return number(mean, digits) + (f"<small>± {number(half, digits)}</small>" if half is not None else "")


def share(mean: float | None, half: float | None) -> str:
    """Show a fraction of the oracle in per cent."""
    return percent(mean) + (f"<small>± {number(100 * half, 1)}</small>" if half is not None and half > 0 else "")


def gap(row: Mapping[str, Any] | None) -> str:
    """Show a gap with its sign of verdict, its size in per cent and its interval."""
    if row is None:
        return NOTHING
    relative = f" ({percent(row['relative'], sign=True)})" if row["relative"] is not None else ""
    limits = interval(row["low"], row["high"]) if row["half"] is not None else "one seed"
    return f"{_SIGNS[row['verdict']]} {signed(row['gap'])}{relative}<small>{limits}</small>"


def answer_table(results: Results, against: str = "softmax") -> str:
    """Give a row for each scenario: the gap in question by each protocol, who is best, and how near the oracle."""
    who = subject(results, against)
    ours = gaps(results, against).filter((pl.col("metric") == "hr10") & (pl.col("contestant") == (who or "")))
    protocols = [protocol for protocol in PROTOCOLS if protocol in set(ours["protocol"])]
    everything = summary(results).filter(pl.col("kind") != "oracle")
    if everything.is_empty():
        return ""
    with_oracle = everything["of_oracle"].drop_nulls().len() > 0
    titles = {"all": "whole stream", "late": "last 10 %", "frozen": "frozen at 90 %"}
    columns = [Column("HR@10", number=False)]
    columns += [Column(f"{who} − {against}, {titles[protocol]}") for protocol in protocols]
    columns += [Column("best, whole stream"), *([Column(f"of {'/'.join(results.ceilings())}")] if with_oracle else [])]
    rows = []
    for scenario in results.scenarios:
        best = next(
            everything.filter(pl.col("scenario") == scenario, pl.col("protocol") == "all").iter_rows(named=True), None
        )
        cells = [f'<a href="#{_anchor(results, scenario)}">{escape(results.scenario_title(scenario))}</a>']
        here = {row["protocol"]: row for row in ours.filter(pl.col("scenario") == scenario).iter_rows(named=True)}
        cells += [*(gap(here.get(protocol)) for protocol in protocols), _best(results, best)]
        cells += [share(best["of_oracle"], best["of_oracle_half"]) if best else NOTHING] if with_oracle else []
        rows.append(cells)
    return table(columns, rows)


def _best(results: Results, best: Mapping[str, Any] | None) -> str:
    if best is None:
        return NOTHING
    marker = swatch(looks(results.runs)[best["contestant"]])
    return f"{spread(best['hr10'], best['hr10_half'])}<small>{marker}{escape(best['contestant'])}</small>"


def _anchor(results: Results, scenario: str) -> str:
    return f"scenario-{results.scenarios.index(scenario) + 1}"


def scenario_table(results: Results, scenario: str, protocol: str, against: str = "softmax") -> str:
    """Give a row for each contestant: HR@10, its gap to `against`, its share of the oracle's; the other metrics."""
    rows = summary(results).filter(pl.col("scenario") == scenario, pl.col("protocol") == protocol)
    if rows.filter(pl.col("kind") != "oracle").is_empty() and protocol != "all":
        return ""
    found = gaps(results, against).filter(
        pl.col("scenario") == scenario, pl.col("protocol") == protocol, pl.col("metric") == "hr10"
    )
    gap_of = {row["contestant"]: row for row in found.iter_rows(named=True)}
    with_oracle = rows["of_oracle"].drop_nulls().len() > 0
    best = {metric: rows.filter(pl.col("kind") != "oracle")[metric].max() for metric in METRICS}
    columns = [Column("", number=False), Column("HR@10"), *([Column(f"HR@10 − {against}")] if gap_of else [])]
    columns += [Column(f"of {'/'.join(results.ceilings(scenario))}")] if with_oracle else []
    columns += [*(Column(METRIC_TITLES[metric]) for metric in METRICS[1:]), Column("seeds")]
    shown = []
    for row in rows.iter_rows(named=True):
        hr10, *others = (_metric(row, metric, best[metric]) for metric in METRICS)
        cells = [contestant(results, row["contestant"], scenario, _variant(row)), hr10]
        cells += [gap(gap_of.get(row["contestant"]))] if gap_of else []
        cells += [share(row["of_oracle"], row["of_oracle_half"])] if with_oracle else []
        shown.append(Row([*cells, *others, str(row["seeds"])], row["kind"]))
    targets = sorted({round(n) for n in rows.filter(pl.col("kind") != "oracle")["targets"].drop_nulls()})
    many = f"{count(targets[0])} to {count(targets[-1])}" if len(targets) > 1 else count(next(iter(targets), None))
    return table(columns, shown, f"{escape(PROTOCOLS[protocol].capitalize())}; {many} targets a run")


def regret_table(results: Results, scenario: str, against: str = "softmax") -> str:
    """Give a row for each contestant of a closed loop; nothing where there is no regret."""
    rows = regrets(results, against).filter(pl.col("scenario") == scenario)
    if rows.is_empty():
        return ""
    columns = [Column("", number=False), Column("regret"), Column(f"regret − {against}")]
    columns += [Column("regret, last 10 %"), Column("seeds")]
    shown = [
        [
            contestant(results, row["contestant"], scenario, row["variant"]),
            figure(row["regret"], row["regret_half"]),
            signed(row["gap"]) + (f"<small>± {number(row['gap_half'])}</small>" if row["gap_half"] is not None else ""),
            figure(row["late_regret"], row["late_regret_half"]),
            str(row["seeds"]),
        ]
        for row in rows.iter_rows(named=True)
    ]
    return table(columns, shown, "Regret a request: expected clicks of the best slate less those of the slate shown")


def _metric(row: Mapping[str, Any], metric: str, best: Any) -> str:
    """Show a mean, bold where it is the best but for the oracle."""
    text = figure(row[metric], row[f"{metric}_half"])
    return f"<b>{text}</b>" if row["kind"] != "oracle" and row[metric] is not None and row[metric] == best else text


def _variant(row: Mapping[str, Any]) -> str:
    if row["variants"] > 1:
        return f"{row['variant'] or 'as the preset'} (best of {row['variants']})"
    return str(row["variant"])


def grid_table(results: Results, scenario: str) -> str:
    """Give HR@10 over the whole stream of every variant of the contestants that have several."""
    rows = summary(results, every_variant=True).filter(
        pl.col("scenario") == scenario, pl.col("protocol") == "all", pl.col("variants") > 1
    )
    columns = [Column("", number=False), Column("variant", number=False)]
    columns += [*(Column(METRIC_TITLES[metric]) for metric in BRIEF), Column("seeds")]
    return table(
        columns,
        [
            [
                contestant(results, row["contestant"], scenario),
                escape(row["variant"] or "as the preset"),
                *(figure(row[metric], row[f"{metric}_half"]) for metric in BRIEF),
                str(row["seeds"]),
            ]
            for row in rows.sort("contestant", "hr10", descending=[False, True]).iter_rows(named=True)
        ],
    )


def costs_table(results: Results, *, by_scenario: bool) -> str:
    """Give means over runs of CPU seconds and tokens a second, and the parameters."""
    head = [Column("scenario", number=False)] if by_scenario else []
    columns = [
        Column("", number=False), *head, Column("train, CPU s"), Column("test, CPU s"), Column("tokens/s"),
        Column("parameters"), Column("steps"), Column("runs"),
    ]  # fmt: skip
    rows = []
    for row in costs(results, by_scenario=by_scenario).iter_rows(named=True):
        low, high = row["parameters"], row["parameters_max"]
        parameters = count(low) if low == high else f"{count(low)} to {count(high)}"
        seconds = [number(row["train_s"], 1), number(row["test_s"], 1), count(row["tokens_per_s"])]
        where = [escape(row["scenario_title"])] if by_scenario else []
        name = contestant(results, row["contestant"], row.get("scenario", ""), _variant(row) if by_scenario else "")
        rows.append([name, *where, *seconds, parameters, count(row["steps"]), str(row["runs"])])
    return table(columns, rows)


def runs_table(results: Results) -> str:
    """Give every run with its digests."""
    columns = [Column("run", number=False), Column("seed"), Column("HR@10"), Column("targets")]
    columns += [Column("examples", number=False), Column("model", number=False)]
    rows = results.runs.select("run", "seed", "hr10", "targets", "examples_digest", "model_digest")
    return table(
        columns,
        [
            [escape(run), str(seed), number(hr10), count(targets), _code(examples), _code(model)]
            for run, seed, hr10, targets, examples, model in rows.iter_rows()
        ],
    )


def _code(text: str | None) -> str:
    return f"<code>{escape(text)}</code>" if text else NOTHING
