"""The tables of the report: the answer, each scenario, costs, and every run."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from model.data.item_age import SLICES
from sim.report.analysis.advice import Advice
from sim.report.analysis.curves import by_age
from sim.report.analysis.results import BRIEF, METRIC_TITLES, METRICS, PROTOCOLS, Results
from sim.report.analysis.statistics import costs, gaps, regrets, summary
from sim.report.analysis.text import NOTHING, contestant_in_question, count, interval, number, percent, signed, spread
from sim.report.html.elements import Cell, Column, Row, Shown, Table
from sim.report.plots.style import looks

_NAME: Final = Column("", number=False)


def contestant(results: Results, name: str, scenario: str, variant: str = "") -> Cell:
    """Return a contestant's cell: marker, title, and below it the name in plots with the variant."""
    below = results.label(name, scenario) + (f" · {variant}" if variant else "")
    return Cell(results.title(name, scenario), [below], look=looks(results.runs)[name])


def _mean(mean: float | None, half: float | None, *, bold: bool = False) -> Cell:
    """Return a mean with half its interval below it."""
    return Cell(number(mean), [] if half is None else [f"± {number(half)}"], bold=bold)


def _share(mean: float | None, half: float | None) -> Cell:
    """Return a fraction of the upper bound in per cent."""
    return Cell(percent(mean), [f"± {number(100 * half, 1)}"] if half else [])


def _gap(row: Mapping[str, Any] | None) -> str | Cell:
    """Return a gap with the sign of its verdict, its size in per cent and its interval."""
    if row is None:
        return NOTHING
    relative = f" ({percent(row['relative'], sign=True)})" if row["relative"] is not None else ""
    limits = interval(row["low"], row["high"]) if row["half"] is not None else "one seed"
    return Cell(f"{signed(row['gap'])}{relative}", [limits], verdict=row["verdict"])


def answer_table(results: Results, against: str = "softmax") -> Table | None:
    """Return a row for each scenario: the gap by each protocol, the best contestant, its share of the upper bound."""
    who = contestant_in_question(results, against)
    ours = gaps(results, against).filter((pl.col("metric") == "hr10") & (pl.col("contestant") == (who or "")))
    protocols = [protocol for protocol in PROTOCOLS if protocol in set(ours["protocol"])]
    everything = summary(results).filter(pl.col("kind") != "oracle")
    if everything.is_empty():
        return None
    with_oracle = everything["of_oracle"].drop_nulls().len() > 0
    titles = {"all": "whole stream", "late": "last {late}", "frozen": "frozen at {before}"}
    columns = [Column("HR@10", number=False)]
    columns += [Column(f"{who} − {against}, {results.in_words(titles[protocol])}") for protocol in protocols]
    columns += [
        Column("best, whole stream"),
        *([Column(f"of {'/'.join(results.upper_bounds())}")] if with_oracle else []),
    ]
    rows = []
    for place, scenario in enumerate(results.scenarios, 1):
        best = next(
            everything.filter(pl.col("scenario") == scenario, pl.col("protocol") == "all").iter_rows(named=True), None
        )
        here = {row["protocol"]: row for row in ours.filter(pl.col("scenario") == scenario).iter_rows(named=True)}
        cells: list[Shown] = [Cell(results.scenario_title(scenario), link=section_id(place))]
        cells += [*(_gap(here.get(protocol)) for protocol in protocols), _best(results, best)]
        cells += [_share(best["of_oracle"], best["of_oracle_half"]) if best else NOTHING] if with_oracle else []
        rows.append(Row(cells))
    return Table(columns, rows)


def advice_table(results: Results, found: Advice) -> Table:
    """Return a row for each contestant on a log, the best first: its HR@10, and by how much it is behind the best."""
    scenario = results.scenarios[0]
    columns = [_NAME, Column("HR@10"), Column("behind the best"), Column("CPU ms a target")]
    rows = [
        Row([
            contestant(results, each.contestant, scenario, each.variant),
            number(each.hr10),
            spread(each.behind, each.half) if place else NOTHING,
            number(each.cpu_ms, 2),
        ])
        for place, each in enumerate(found.standings)
    ]  # fmt: skip
    note = "±: 95 % interval over hundredths of the stream, on the same targets"
    return Table(columns, rows, f"HR@10 in {found.late}; {count(found.targets)} targets. {note}")


def section_id(place: int) -> str:
    """Return the id of a scenario's section; the first is 1."""
    return f"scenario-{place}"


def _best(results: Results, best: Mapping[str, Any] | None) -> str | Cell:
    if best is None:
        return NOTHING
    name = best["contestant"]
    return Cell(spread(best["hr10"], best["hr10_half"]), [name], look_below=looks(results.runs)[name])


def scenario_table(results: Results, scenario: str, protocol: str, against: str = "softmax") -> Table | None:
    """Return a row for each contestant: HR@10, its gap to `against`, its share of the upper bound; other metrics."""
    rows = summary(results).filter(pl.col("scenario") == scenario, pl.col("protocol") == protocol)
    contestants = rows.filter(pl.col("kind") != "oracle")
    if contestants.is_empty() and protocol != "all":
        return None
    found = gaps(results, against).filter(
        pl.col("scenario") == scenario, pl.col("protocol") == protocol, pl.col("metric") == "hr10"
    )
    gap_of = {row["contestant"]: row for row in found.iter_rows(named=True)}
    with_oracle = rows["of_oracle"].drop_nulls().len() > 0
    best = {metric: contestants[metric].max() for metric in METRICS}
    columns = [_NAME, Column("HR@10"), *([Column(f"HR@10 − {against}")] if gap_of else [])]
    columns += [Column(f"of {'/'.join(results.upper_bounds(scenario))}")] if with_oracle else []
    columns += [*(Column(METRIC_TITLES[metric]) for metric in METRICS[1:]), Column("seeds")]
    shown = []
    for row in rows.iter_rows(named=True):
        hr10, *others = (_metric(row, metric, best[metric]) for metric in METRICS)
        cells: list[Shown] = [contestant(results, row["contestant"], scenario, _variant(row)), hr10]
        cells += [_gap(gap_of.get(row["contestant"]))] if gap_of else []
        cells += [_share(row["of_oracle"], row["of_oracle_half"])] if with_oracle else []
        shown.append(Row([*cells, *others, str(row["seeds"])], row["kind"]))
    targets = sorted({round(n) for n in contestants["targets"].drop_nulls()})
    many = f"{count(targets[0])} to {count(targets[-1])}" if len(targets) > 1 else count(next(iter(targets), None))
    return Table(columns, shown, f"{results.in_words(PROTOCOLS[protocol]).capitalize()}; {many} targets a run")


def _metric(row: Mapping[str, Any], metric: str, best: Any) -> Cell:
    """Return a mean, bold where it is the best of the contestants."""
    bold = row["kind"] != "oracle" and row[metric] is not None and row[metric] == best
    return _mean(row[metric], row[f"{metric}_half"], bold=bold)


def _variant(row: Mapping[str, Any]) -> str:
    if row["variants"] > 1:
        return f"{row['variant'] or 'as the preset'} (best of {row['variants']})"
    return str(row["variant"])


def regret_table(results: Results, scenario: str, against: str = "softmax") -> Table | None:
    """Return a row for each contestant of a closed loop; None where there is no regret."""
    found = regrets(results, against).filter(pl.col("scenario") == scenario)
    if found.is_empty():
        return None
    columns = [
        _NAME,
        Column("regret"),
        Column(f"regret − {against}"),
        Column(results.in_words("regret, last {late}")),
        Column("seeds"),
    ]
    rows = [
        Row([
            contestant(results, row["contestant"], scenario, row["variant"]),
            _mean(row["regret"], row["regret_half"]),
            Cell(signed(row["gap"]), _mean(None, row["gap_half"]).below),
            _mean(row["late_regret"], row["late_regret_half"]),
            str(row["seeds"]),
        ])
        for row in found.iter_rows(named=True)
    ]  # fmt: skip
    return Table(columns, rows, "Regret a request: expected clicks of the best slate less those of the slate shown")


def ages_table(results: Results, scenario: str) -> Table | None:
    """Return HR@10 of each contestant by age of the item; None where no age was tested often enough."""
    found = by_age(results, scenario)
    if found.is_empty():
        return None
    of = {(row["contestant"], row["age"]): row for row in found.iter_rows(named=True)}
    ages = [age for age in SLICES if any(age == there for _, there in of)]
    share = {age: next(row["share"] for (_, there), row in of.items() if there == age) for age in ages}
    columns = [_NAME, *(Column(f"{age}, {percent(share[age], 0)} of targets") for age in ages)]
    order = summary(results).filter(pl.col("scenario") == scenario, pl.col("protocol") == "all")["contestant"]
    best = {age: max(row["hr10"] for (_, there), row in of.items() if there == age) for age in ages}
    rows = [
        Row([contestant(results, name, scenario), *(_at_age(of.get((name, age)), best[age]) for age in ages)])
        for name in order
        if any(name == there for there, _ in of)
    ]
    return Table(columns, rows, "HR@10 by age of the item at the request, over the whole stream")


def _at_age(row: Mapping[str, Any] | None, best: float) -> Shown:
    if row is None:
        return NOTHING
    limits = f"{number(row['low'])} to {number(row['high'])}"
    return Cell(number(row["hr10"]), [limits], bold=row["hr10"] == best)


def grid_table(results: Results, scenario: str) -> Table:
    """Return the brief metrics over the whole stream of every variant of the contestants that have several."""
    found = summary(results, every_variant=True).filter(
        pl.col("scenario") == scenario, pl.col("protocol") == "all", pl.col("variants") > 1
    )
    titles = (Column(METRIC_TITLES[metric]) for metric in BRIEF)
    rows = [
        Row([
            contestant(results, row["contestant"], scenario),
            row["variant"] or "as the preset",
            *(_mean(row[metric], row[f"{metric}_half"]) for metric in BRIEF),
            str(row["seeds"]),
        ])
        for row in found.sort("contestant", "hr10", descending=[False, True]).iter_rows(named=True)
    ]  # fmt: skip
    return Table([_NAME, Column("variant", number=False), *titles, Column("seeds")], rows)


def costs_table(results: Results, *, by_scenario: bool) -> Table:
    """Return means over runs of CPU seconds and tokens a second, and the parameters."""
    where = [Column("scenario", number=False)] if by_scenario else []
    titles = ("train, CPU s", "test, CPU s", "tokens/s", "parameters", "steps", "runs")
    rows = []
    for row in costs(results, by_scenario=by_scenario).iter_rows(named=True):
        low, high = row["parameters"], row["parameters_max"]
        parameters = count(low) if low == high else f"{count(low)} to {count(high)}"
        seconds = [number(row["train_s"], 1), number(row["test_s"], 1), count(row["tokens_per_s"])]
        name = contestant(results, row["contestant"], row.get("scenario", ""), _variant(row) if by_scenario else "")
        here = [row["scenario_title"]] if by_scenario else []
        rows.append(Row([name, *here, *seconds, parameters, count(row["steps"]), str(row["runs"])]))
    return Table([_NAME, *where, *(Column(title) for title in titles)], rows)


def runs_table(results: Results) -> Table:
    """Return every run with its digests."""
    columns = [Column("run", number=False), Column("seed"), Column("HR@10"), Column("targets")]
    columns += [Column("examples", number=False), Column("model", number=False)]
    found = results.runs.select("run", "seed", "hr10", "targets", "examples_digest", "model_digest")
    rows = [
        Row([run, str(seed), number(hr10), count(targets), _code(examples), _code(model)])
        for run, seed, hr10, targets, examples, model in found.iter_rows()
    ]
    return Table(columns, rows)


def _code(text: str | None) -> str | Cell:
    return Cell(text, code=True) if text else NOTHING
