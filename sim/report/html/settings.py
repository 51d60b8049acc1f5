"""Settings of all runs as two short tables: what they share, and what differs."""

import json
from collections import defaultdict
from html import escape
from typing import Any

import polars as pl

from sim.report.analysis.results import Results
from sim.report.analysis.settings import leaves
from sim.report.html.elements import Column, paragraph, table


def settings_tables(results: Results) -> str:
    """Give both tables."""
    runs = results.runs.with_row_index("place")
    of_run = [leaves(text) for text in runs["settings"]]
    names = sorted({name for found in of_run for name in found})
    if not names:
        return paragraph("No run says its settings.")
    shared: list[list[str]] = []
    different: list[list[str]] = []
    for name in names:
        values = [_shown(found[name]) if name in found else None for found in of_run]
        known = {value for value in values if value is not None}
        if len(known) == 1:
            shared.append([f"<code>{escape(name)}</code>", escape(known.pop())])
        else:
            different.append([f"<code>{escape(name)}</code>", _who_has(runs, values)])
    columns = [Column("setting", number=False), Column("value", number=False)]
    differing = table(columns, different, "What differs between runs") if different else ""
    return differing + (table(columns, shared, "The same in every run that has it") if shared else "")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _who_has(runs: pl.DataFrame, values: list[str | None]) -> str:
    """Say each value and whose it is, by the fewest words that tell: seeds, scenarios, contestants, or both."""
    for by in (["seed"], ["scenario"], ["contestant"], ["contestant", "variant"], ["scenario", "contestant"]):
        owners: dict[tuple[Any, ...], set[str]] = defaultdict(set)
        for owner, value in zip(runs.select(by).iter_rows(), values, strict=True):
            if value is not None:
                owners[owner].add(value)
        if all(len(found) == 1 for found in owners.values()):
            names: dict[str, list[str]] = defaultdict(list)
            for owner, found in owners.items():
                names[next(iter(found))].append(" ".join(str(part) for part in owner if part != ""))
            return "<br>".join(_owned(value, found, by) for value, found in names.items())
    distinct = sorted({value for value in values if value is not None})
    return escape(", ".join(distinct[:20])) + (f" and {len(distinct) - 20} more" if len(distinct) > 20 else "")


def _owned(value: str, owners: list[str], by: list[str]) -> str:
    more = f" and {len(owners) - 8} more" if len(owners) > 8 else ""
    kind = "seed " if by == ["seed"] else ""
    return f"{escape(value)} <small>{escape(kind + ', '.join(owners[:8]) + more)}</small>"
