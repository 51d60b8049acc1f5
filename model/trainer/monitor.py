"""Shows how a trainer gets on while it runs: a live table or lines in the log, and metrics for Prometheus."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from rich.live import Live

from model.arrays.jit import compiling
from model.evaluation.metrics import ALL, HEADLINE
from model.evaluation.prequential import MODEL
from model.trainer.live_table import SCORER_NAMES, live_view
from model.trainer.prometheus import TrainerMetrics
from stream.metrics_server import Health, serve_metrics

_LINE_S: Final = 10.0  # between lines in the log
_QUIET_S: Final = 600.0  # between two that say the same
_HELD_S: Final = 30.0  # how long a partition may hold the others up before the log says so
_log: Final = logging.getLogger("hstu.train")


class Monitor:
    """Takes the trainer's reports, one a second or so, and shows them.

    Args:
        report: The first report.
        live: Whether to draw the live table; otherwise a line is logged every ten seconds, while anything is learned.
    """

    def __init__(self, report: Mapping[str, Any], live: bool) -> None:
        self.health = Health(busy=compiling)
        self._metrics = TrainerMetrics()
        self._table = Live(live_view(report), auto_refresh=False) if live else None
        self._said_s, self._said = time.monotonic(), ""
        self._held: Mapping[str, Any] | None = None  # the partition that holds the others up
        self._held_s = 0.0  # since when

    def show(self, report: Mapping[str, Any], lag: int | None = None) -> None:
        """Show a report.

        Args:
            report: What RunReport.as_dict returned.
            lag: Number of records of the topics that are not yet read; None where it is not known.
        """
        self._metrics.update(report, lag)
        self._warn_of_held(report["waits_for"] if lag is not None else None)  # else Kafka is silent
        if self._table is not None:
            self._table.update(live_view(report, lag), refresh=True)
        else:
            self._say(report)

    def _say(self, report: Mapping[str, Any]) -> None:
        """Log how far it is, if it is time."""
        quiet_s = time.monotonic() - self._said_s
        if quiet_s < _LINE_S:
            return
        progress = _progress(report)
        if progress == self._said and report["examples"]:
            if quiet_s < _QUIET_S:
                return
            _log.info("Trainer %s: %s Nothing new has come for %.0f s.", report["name"], progress, quiet_s)
        else:
            _log.info("Trainer %s: %s", report["name"], progress)
        self._said_s, self._said = time.monotonic(), progress

    def end(self, report: Mapping[str, Any]) -> None:
        """Show the last report; without the table a last line has what came of the run."""
        self.show(report)
        if self._table is None:
            _log.info("Trainer %s has ended: %s%s.", report["name"], _counts(report), _found(report))

    def _warn_of_held(self, waits_for: Mapping[str, Any] | None) -> None:
        """Warn of a partition that has held the others up for long, and again each time as long."""
        now_s = time.monotonic()
        if waits_for is None or waits_for != self._held or compiling():  # then nothing is read, whatever has come
            self._held, self._held_s = waits_for, now_s
        elif now_s - self._held_s >= _HELD_S:
            self._held_s = now_s
            _log.warning(
                "All wait for partition %d of %s, which has brought nothing for %.0f s: see that a worker has it, "
                "that stream.idle_timeout_s is not 0, and that a replay into it goes on.",
                *(waits_for["partition"], waits_for["topic"], _HELD_S),
            )

    @contextmanager
    def open(self, host: str, port: int) -> Iterator[None]:
        """Serve the metrics, and draw the table if it is wanted, while the block runs.

        Raises:
            HstuError: The port is taken.
        """
        with _served(self._metrics, host, port, self.health), self._table or nullcontext():
            yield


def _counts(report: Mapping[str, Any]) -> str:
    return f"step {report['step']:,}, {report['examples']:,} examples"


def _progress(report: Mapping[str, Any]) -> str:
    """Return the counts, or what to look at as long as they are 0."""
    if report["examples"]:
        return f"{_counts(report)}."
    if compiling():
        return "compiling the loops of the first step, or waiting for a process that does."
    if report["waiting"]:
        return f"the first step waits for examples of all partitions; {report['waiting']:,} records are read."
    return "waiting for the first example: is a worker running, has anything been sent?"


def _found(report: Mapping[str, Any]) -> str:
    """Return the model's metric over all targets, and that of the best other scorer."""
    totals = {scorer: tallies["total"][ALL] for scorer, tallies in report["retrieval"].items()}
    model = totals.pop(MODEL)
    if not model["targets"]:
        return ", no targets"
    best = max(totals, key=lambda scorer: totals[scorer][HEADLINE.key] or 0.0)
    return (
        f"; {HEADLINE.title} {model[HEADLINE.key]:.4f} of {model['targets']:,} targets, "
        f"{SCORER_NAMES[best]} (the best other) {totals[best][HEADLINE.key] or 0.0:.4f}"
    )


@contextmanager
def _served(metrics: TrainerMetrics, host: str, port: int, health: Health) -> Iterator[None]:
    port, stop = serve_metrics(metrics.registry, host, port, health, "train.metrics_port")
    _log.info("Metrics on http://%s:%d/metrics", host, port)
    try:
        yield
    finally:
        stop()
