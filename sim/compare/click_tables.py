"""Click probabilities on a terminal: a table for each scenario and action."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from sim.report.analysis.clicks import CONSTANT, click_summary
from sim.report.analysis.results import Results
from sim.report.analysis.text import NOTHING, number

_WHO: Final = ("scenario", "action", "contestant", "variant")


def click_tables(results: Results) -> Iterator[Table]:
    """Yield the tables, of the whole stream and of its last part; none where nobody has click probabilities."""
    late = {tuple(row[name] for name in _WHO): row for row in click_summary(results, "late").iter_rows(named=True)}
    for (scenario, action), rows in click_summary(results).group_by("scenario", "action", maintain_order=True):
        title = f"{scenario}, probability of {action}: {rows['positives'][0]:,.0f} of {rows['targets'][0]:,.0f} shown"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        ne = ("NE", f"NE − {results.hstu}")
        heads = (*ne, *(results.in_words(f"{name}, last {{late}}") for name in ne))
        heads += ("log-loss", "AUC", "GAUC", "calibration", "parameters", "CPU ms each")
        for head in ("", "seeds", *heads):
            table.add_column(head, justify="right" if head else "left", no_wrap=True)
        for row in rows.iter_rows(named=True):
            table.add_row(*_cells(row, late.get(tuple(row[name] for name in _WHO), {})))
        yield table


def _cells(row: Mapping[str, Any], late: Mapping[str, Any]) -> Iterator[str]:
    yield "best constant" if row["contestant"] == CONSTANT else f"{row['contestant']} {row['variant']}".strip()
    yield str(row["seeds"])
    for part in (row, late):
        yield _spread(part, "ne")
        yield _spread(part, "gap", "+")
    for name in ("log_loss", "auc", "gauc", "calibration"):
        yield _spread(row, name)
    yield NOTHING if row["parameters"] is None else f"{row['parameters']:,.0f}"
    yield number(row["cpu_ms"], 2)


def _spread(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    value, half = row.get(name), row.get(f"{name}_half")
    return NOTHING if value is None else f"{value:{sign}.4f}" + ("" if half is None else f" ± {half:.4f}")
