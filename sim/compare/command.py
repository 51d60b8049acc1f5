"""`hstu compare` once its options are read: run side by side, write tables, print a summary and the report."""

import time
from pathlib import Path
from typing import Final

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sim import report
from sim.compare.click_tables import click_tables
from sim.compare.jobs import Jobs
from sim.compare.of_log import announced, print_advice
from sim.compare.output_tables import make_folder, write_about, write_tables
from sim.compare.plan import Plan
from sim.console import ERR, stopping_on_signals
from sim.errors import SimError
from sim.experiment.run import RunSpec
from sim.report.analysis import statistics
from sim.report.analysis.advice import advice
from sim.report.analysis.results import METRIC_TITLES, METRICS, Results, read_results

_WIDE: Final = 160  # columns of tables that go into a file
_WRITE_S: Final = 10.0  # between two writes of the tables, each of which reads all results so far
_LINE_S: Final = 30.0  # between two lines where no progress bar can be drawn


class Comparison:
    """One comparison in its folder.

    Args:
        plan: What to compare.
        preset: The name of the preset, for the report; empty for none.
        out: The folder of results; it is created.
        workers: The number of processes at once.

    Raises:
        SimError: The folder is another's.
    """

    def __init__(self, plan: Plan, preset: str, out: Path, workers: int) -> None:
        self._specs, self._preset, self._out = plan.specs(), preset, out
        make_folder(out, self._specs)
        self._jobs = Jobs(out, self._specs, workers)
        self._started_s = time.time()
        self._shares: dict[str, float] = {}  # run under way: share done
        self._ended = len(self._specs) - len(self._jobs.waiting)
        self._printed_s = time.monotonic()
        write_about(out, preset, len(self._specs), self._started_s, finished=False)

    def run(self) -> Path | None:
        """Run what has no result yet and return the report's path; None if it was stopped."""
        left = len(self._jobs.waiting)
        ERR.print(f"{len(self._specs)} runs, {left} of them to do; results go to {self._out}.")
        self._write(finished=False)
        finished = self._run() if left else True
        self._write(finished=finished)
        if not finished:
            ERR.print("Stopped; the same command goes on.")
            return None
        if not self._written and self.failed:
            raise SimError("No run has ended:\n" + "\n".join(self.failed))
        return report.write_report(self._out)

    def _run(self) -> bool:
        columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=ERR) as bar:
            task = bar.add_task("runs", total=len(self._jobs.waiting))
            before = self._ended

            def show() -> None:
                done = self._ended - before + sum(self._shares.values())
                bar.update(task, completed=done, description=f"{self._ended} of {len(self._specs)} runs")
                if not ERR.is_terminal and time.monotonic() - self._printed_s > _LINE_S:
                    self._printed_s = time.monotonic()
                    left_s = bar.tasks[0].time_remaining
                    ERR.print(
                        f"{self._ended} of {len(self._specs)} runs, {done / len(self._jobs.waiting):.0%} of the work"
                        + (f", {left_s:.0f} s left" if left_s else "")
                    )

            def progress(run: str, done: int, examples: int) -> None:
                self._shares[run] = done / examples
                show()

            def ended(spec: RunSpec) -> None:
                self._shares.pop(spec.id, None)
                self._ended += 1
                if time.monotonic() - self._wrote_s > _WRITE_S:
                    self._write(finished=False)
                show()

            with stopping_on_signals(self._jobs.stop):
                return self._jobs.run(progress, ended)

    def _write(self, *, finished: bool) -> None:
        self._wrote_s = time.monotonic()
        self._written = write_tables(self._out, self._specs)
        write_about(self._out, self._preset, len(self._specs), self._started_s, finished=finished)

    @property
    def failed(self) -> list[str]:
        """The runs that failed, each with its reason."""
        return list(self._jobs.failed.values())

    def print_summary(self) -> None:
        """Print the report's first tables."""
        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console.width = _WIDE
        results = read_results(self._out)
        summary = statistics.summary(results, every_variant=True)
        for (scenario, protocol), own in summary.group_by("scenario", "protocol", maintain_order=True):
            if (own["kind"] != "oracle").any():
                console.print(_table(results, str(scenario), str(protocol), own))
        regrets = statistics.regrets(results)
        if regrets.height:
            console.print(_regrets(results, regrets))
        for table in click_tables(results):
            console.print(table)
        lead = statistics.gaps(results, results.against).filter(pl.col("metric") == "hr10")
        found = advice(results)
        if found is not None:
            print_advice(found, console)
        elif lead.height:
            console.print(_gaps(lead, results.against))


def _table(results: Results, scenario: str, protocol: str, frame: pl.DataFrame) -> Table:
    table = Table(title=f"{scenario}, {protocol}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    bound = "/".join(results.upper_bounds(scenario))
    best = set(statistics.tuned(results.runs).select("scenario", "contestant", "variant").iter_rows())
    for head in ("", "seeds", *METRIC_TITLES.values(), f"of the {bound}" if bound else ""):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for row in frame.iter_rows(named=True):
        cells = [_number(row[name], row[f"{name}_half"]) for name in METRICS]
        cells.append(_number(row["of_oracle"], row["of_oracle_half"]) if bound else "")
        name = f"{results.label(row['contestant'], scenario)} {row['variant']}"
        if protocol == "all" and row["variants"] > 1 and (scenario, row["contestant"], row["variant"]) in best:
            name += f", best of {row['variants']} variants"
        table.add_row(name, str(row["seeds"]), *cells)
    return table


def _regrets(results: Results, frame: pl.DataFrame) -> Table:
    title = "Regret a request: expected clicks of the best slate less those of the slate shown"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("scenario", "", "seeds", "regret", results.in_words("last {late}"), "against softmax"):
        table.add_column(head, justify="left" if head in ("scenario", "") else "right", no_wrap=True)
    for row in frame.iter_rows(named=True):
        name = f"{row['contestant']} {row['variant']}"
        cells = [_number(row[key], row[f"{key}_half"]) for key in ("regret", "late_regret")]
        table.add_row(row["scenario"], name, str(row["seeds"]), *cells, _number(row["gap"], row["gap_half"], "+"))
    return table


def _gaps(frame: pl.DataFrame, against: str) -> Table:
    title = f"HR@10 against {against}, seed by seed (95 % interval)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("scenario", "protocol", "", "gap", "relative"):
        table.add_column(head, justify="right" if head in ("gap", "relative") else "left", no_wrap=True)
    for row in frame.iter_rows(named=True):
        relative = "–" if row["relative"] is None else f"{row['relative']:+.1%}"
        cells = (row["scenario"], row["protocol"], f"{row['contestant']} {row['variant']}".strip())
        table.add_row(*cells, _number(row["gap"], row["half"], "+"), relative)
    return table


def _number(mean: float | None, half: float | None, sign: str = "") -> str:
    if mean is None:
        return "–"
    return f"{mean:{sign}.4f}" + ("" if half is None else f" ± {half:.4f}")


def run_compare(plan: Plan, preset: str, out: Path, workers: int) -> bool:
    """Compare, print the tables and the report's path; return False if it was stopped.

    Raises:
        SimError: A run has failed; the report has the others.
    """
    for sentence in announced(plan, workers) if plan.log else ():
        ERR.print(sentence)
    comparison = Comparison(plan, preset, out, workers)
    page = comparison.run()
    if page is None:
        return False
    comparison.print_summary()
    ERR.print(f"The report is {page}.")
    if failed := comparison.failed:
        raise SimError("\n".join([f"{len(failed)} of the runs failed, and are not in the report:", *failed]))
    return True
