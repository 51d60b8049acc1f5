"""The report of a comparison: one self-contained HTML file, its tables as frames, its plots as files.

`write_report(folder)` reads runs.parquet, curves.parquet, moments.parquet and about.json, and writes report.html beside
them. An unfinished folder gets a report too, which lists what is missing. Equal input gives equal bytes.
"""

from pathlib import Path

import polars as pl

from sim.report import markdown as report_markdown, plots
from sim.report.analysis import recovery, statistics
from sim.report.analysis.results import read_results
from sim.report.html.page import page


def write_report(folder: Path) -> Path:
    """Write folder/report.html and return its path.

    Raises:
        SimError: The folder holds no readable runs.parquet.
    """
    text = page(read_results(folder))
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def summary(folder: Path) -> pl.DataFrame:
    """Return a row for each scenario, protocol and contestant; columns as in `statistics.summary`."""
    return statistics.summary(read_results(folder))


def gaps(folder: Path, against: str = "softmax") -> pl.DataFrame:
    """Return each contestant's lead over `against`, paired by seed; columns as in `statistics.gaps`."""
    return statistics.gaps(read_results(folder), against)


def regrets(folder: Path, against: str = "softmax") -> pl.DataFrame:
    """Return the regret of each contestant in closed loops; columns as in `statistics.regrets`."""
    return statistics.regrets(read_results(folder), against)


def recoveries(folder: Path) -> pl.DataFrame:
    """Return the recovery of each run after each moment; columns as in `recovery.SCHEMA`."""
    return recovery.recoveries(read_results(folder))


def costs(folder: Path) -> pl.DataFrame:
    """Return CPU seconds, tokens a second and parameters; columns as in `statistics.costs`."""
    return statistics.costs(read_results(folder))


def save_figures(folder: Path, target: Path) -> list[Path]:
    """Write the plots as self-contained .svg files into `target`, as for docs/silu-vs-softmax; return their paths."""
    return plots.save(read_results(folder), target)


def markdown(folder: Path) -> str:
    """Return the answer and the tables of every scenario as Markdown, for a document."""
    return report_markdown.markdown(read_results(folder))
