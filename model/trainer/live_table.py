"""The live table of `hstu train`: the model beside the baselines, drawn from a report of run.py."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from model.data.item_age import SLICES
from model.evaluation.metrics import ALL, HEADLINE, METRICS, RankingTally
from model.evaluation.prequential import LOGISTIC, MODEL, RANKERS, SCORERS
from model.terminal import when

SCORER_NAMES: Final = {
    "hstu": "HSTU",
    "encoder": "encoder alone",
    "stack": "counters",
    "popularity": "popularity",
    "last_items": "own last items",
}
_RANKER_NAMES: Final = {**SCORER_NAMES, LOGISTIC: "counters"}
_RANKING: Final = {"log_loss": "log-loss", "ne": "NE", "calibration": "calibration", "auc": "AUC"}


def live_view(report: Mapping[str, Any], lag: int | None = None) -> RenderableType:
    """Return what the terminal shows.

    Args:
        report: A report of the training run.
        lag: The number of records in the topics that are not yet read; None where it is not known.
    """
    parts: list[RenderableType] = [_progress(report, lag), _retrieval(report), _by_age(report)]
    if report["rank_targets"]:
        parts.append(_ranking(report))
    return Group(*parts)


def _progress(report: Mapping[str, Any], lag: int | None) -> Text:
    """Return the progress of the run in one line."""
    trouble = {
        name: report[name] for name in ("collisions", "late", "repeats", "refused", "passed_over") if report[name]
    }
    facts = [
        f"{report['name']}: step {report['step']:,}",
        f"event time {when(report['event_ms'])}",
        f"{report['tokens_per_s']:,.0f} tokens/s",
        f"{_items(report)}, {report['features']:,} features",
        f"{report['waiting']:,} waiting" + ("" if lag is None else f", {lag:,} unread"),
        *(f"{count:,} {name}" for name, count in trouble.items()),
    ]
    return Text(" · ".join(facts))


def _items(report: Mapping[str, Any]) -> str:
    """Return how full the vocabulary is, who has left it, and how many targets found their item in it."""
    inside = [f"{report['withdrawn']:,} withdrawn"]
    if report["max_items"]:
        inside.append(f"{report['items'] / report['max_items']:.0%} of train.max_items")
    if gone := report["expired"] + report["evicted"]:
        age_d = report["dead_age_s"] / gone / 86_400
        inside.append(f"{gone:,} left at {age_d:.1f} days on average, {report['readmitted']:,} came back")
    if report["lookups"]:
        inside.append(f"{report['hits'] / report['lookups']:.1%} of targets found theirs")
    return f"{report['items']:,} items ({', '.join(inside)})"


def _retrieval(report: Mapping[str, Any]) -> Table:
    scopes = ("window", "total")
    counts = {scope: report["retrieval"]["hstu"][scope][ALL]["targets"] for scope in scopes}
    heads = [f"{SCORER_NAMES[scorer]}, {scope}" for scope in scopes for scorer in SCORERS]
    title = f"Retrieval: {counts['window']:,} targets in the window, {counts['total']:,} in total"
    if report["test_share"] < 1:
        title += f"; {report['test_share']:.2%} of all are tested"
    table = _table(title, ["", *heads])
    for metric in METRICS:
        cells = [report["retrieval"][scorer][scope][ALL][metric.key] for scope in scopes for scorer in SCORERS]
        table.add_row(metric.title, *map(_number, cells))
    return table


def _by_age(report: Mapping[str, Any]) -> Table:
    table = _table(f"{HEADLINE.title} in the window by age of the item", ["age", "targets", *SCORER_NAMES.values()])
    for age in SLICES:
        slices = [report["retrieval"][scorer]["window"][age] for scorer in SCORERS]
        table.add_row(escape(age), f"{slices[0]['targets']:,}", *(_number(each[HEADLINE.key]) for each in slices))
    return table


def _ranking(report: Mapping[str, Any]) -> Table:
    figures = ("auc", *RankingTally.FIGURES)
    heads = ["action", "", "positives", *(_RANKING[figure] for figure in figures), "AUC, total", "NE, total"]
    table = _table(f"Ranking in the window, of {report['rank_targets']:,} shown items in total", heads)
    for action in report["ranking"][MODEL]["window"]:
        for ranker in RANKERS:
            window, total = (report["ranking"][ranker][scope][action][ALL] for scope in ("window", "total"))
            cells = [*(window[figure] for figure in figures), total["auc"], total["ne"]]
            name = escape(action) if ranker == MODEL else ""
            table.add_row(name, _RANKER_NAMES[ranker], f"{window['positives']:,}", *map(_number, cells))
    return table


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left")
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
