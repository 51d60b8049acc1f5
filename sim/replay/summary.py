"""What a run in one process prints at its end: metrics by scorer, item age and action, and its digests."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from model.evaluation.metrics import HEADLINE, METRICS
from model.evaluation.prequential import MODEL
from sim.replay.in_process import DirectRun

_RETRIEVAL = tuple(metric.key for metric in METRICS)
_RANKING = ("positives", "log_loss", "ne", "auc", "calibration")


def print_report(run: DirectRun) -> None:
    """Print the tables to stdout."""
    console = Console(highlight=False, markup=False)
    training, report = run.training, run.training.report
    console.print(
        f"{report['examples']:,} examples, {report['targets']:,} retrieval and {report['rank_targets']:,} ranking "
        f"targets, {report['tokens']:,} tokens, {report['items']:,} items known."
    )
    retrieval = {scorer: figures["total"] for scorer, figures in report["retrieval"].items()}
    whole = ((scorer, figures["all"]) for scorer, figures in retrieval.items())
    console.print(_table("Retrieval, each item tested before it was learned", "scorer", _RETRIEVAL, whole))
    ages = {age: _by_scorer(age, retrieval) for age in next(iter(retrieval.values()))}
    console.print(_table(f"{HEADLINE.title} by age of the item at the request", "age", [*retrieval], ages.items()))
    if report["rank_targets"]:
        actions = (
            (f"{action}: {scorer}", scopes["total"][action]["all"])
            for action in report["ranking"][MODEL]["total"]
            for scorer, scopes in report["ranking"].items()
        )
        console.print(_table("Ranking, by action and scorer", "action", _RANKING, actions))
    if refused := run.refused():
        console.print("Dead-letters: " + ", ".join(f"{count:,} {reason}" for reason, count in refused.items()))
    if late := run.late_labels():
        console.print(f"Late labels: {late:,} actions on items whose label was final (stream.action_window_s).")
    for name, digest in training.digests.items():
        console.print(f"digest of {name}: {digest}", soft_wrap=True)


def _by_scorer(age: str, retrieval: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the targets of an age and each scorer's figure."""
    targets = next(iter(retrieval.values()))[age]["targets"]
    return {"targets": targets} | {scorer: of_age[age][HEADLINE.key] for scorer, of_age in retrieval.items()}


def _table(title: str, first: str, figures: Sequence[str], rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    table = Table(first, title=title, title_justify="left")
    for name in ("targets", *figures):
        table.add_column(name, justify="right")
    for name, row in rows:
        table.add_row(name, f"{row['targets']:,}", *(_shown(row[figure]) for figure in figures))
    return table


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
