"""The report of a comparison: one HTML file that needs nothing else, its tables as frames, its plots as files.

`write_report(folder)` reads runs.parquet, curves.parquet, moments.parquet and about.json and writes report.html
beside them. A folder that is half finished gets a report too, which says what is not there. Equal input gives equal
bytes.
"""

from pathlib import Path

import polars as pl

from sim.report import markdown as report_markdown, plots
from sim.report.analysis import recovery, statistics
from sim.report.analysis.results import read_results
from sim.report.html.page import page


def write_report(folder: Path) -> Path:
    """Write folder/report.html and give its path.

    Raises:
        SimError: the folder holds no readable runs.parquet.
    """
    text = page(read_results(folder))
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def summary(folder: Path) -> pl.DataFrame:
    """Give a row for each scenario, protocol and contestant; columns as in `report_stats.summary`."""
    return statistics.summary(read_results(folder))


def gaps(folder: Path, against: str = "softmax") -> pl.DataFrame:
    """Give each contestant's lead over `against`, paired by seed; columns as in `report_stats.gaps`."""
    return statistics.gaps(read_results(folder), against)


def regrets(folder: Path, against: str = "softmax") -> pl.DataFrame:
    """Give the regret of each contestant in closed loops; columns as in `report_stats.regrets`."""
    return statistics.regrets(read_results(folder), against)


def recoveries(folder: Path) -> pl.DataFrame:
    """Give how long each run needed after each moment; columns as in `report_recovery.SCHEMA`."""
    return recovery.recoveries(read_results(folder))


def costs(folder: Path) -> pl.DataFrame:
    """Give CPU seconds, tokens a second and parameters; columns as in `report_costs.costs`."""
    return statistics.costs(read_results(folder))


def save_figures(folder: Path, target: Path) -> list[Path]:
    """Write the plots as .svg files that stand alone into `target`, for a document; give their paths."""
    return plots.save(read_results(folder), target)


def markdown(folder: Path) -> str:
    """Give the answer and the tables of every scenario as Markdown, for a document."""
    return report_markdown.markdown(read_results(folder))
