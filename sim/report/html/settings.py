"""Settings of all runs as two short tables: what differs, and what they share."""

import json
from collections import defaultdict
from typing import Any

import polars as pl

from sim.report.analysis.results import Results
from sim.report.analysis.settings import leaves
from sim.report.html.elements import Cell, Column, Row, Table


def settings_tables(results: Results) -> list[Table]:
    """Return a table of the settings that differ between runs and one of those that do not; no empty ones."""
    runs = results.runs
    of_run = [leaves(text) for text in runs["settings"]]
    shared: list[Row] = []
    different: list[Row] = []
    for name in sorted({name for found in of_run for name in found}):
        values = [_shown(found[name]) if name in found else None for found in of_run]
        distinct = {value for value in values if value is not None}
        if len(distinct) == 1:
            shared.append(Row([Cell(name, code=True), distinct.pop()]))
        else:
            different.append(Row([Cell(name, code=True), _owners(runs, values)]))
    columns = [Column("setting", number=False), Column("value", number=False)]
    tables = (different, "What differs between runs"), (shared, "The same in every run that has it")
    return [Table(columns, rows, caption) for rows, caption in tables if rows]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _owners(runs: pl.DataFrame, values: list[str | None]) -> str | list[Cell]:
    """Return each value with its owners, by the shortest key that tells them apart: seeds, scenarios, contestants, …"""
    for by in (["seed"], ["scenario"], ["contestant"], ["contestant", "variant"], ["scenario", "contestant"]):
        owners: dict[tuple[Any, ...], set[str]] = defaultdict(set)
        for owner, value in zip(runs.select(by).iter_rows(), values, strict=True):
            if value is not None:
                owners[owner].add(value)
        if all(len(found) == 1 for found in owners.values()):
            names: dict[str, list[str]] = defaultdict(list)
            for owner, found in owners.items():
                names[next(iter(found))].append(" ".join(str(part) for part in owner if part != ""))
            return [_owned(value, found, by) for value, found in names.items()]
    distinct = sorted({value for value in values if value is not None})
    return ", ".join(distinct[:20]) + (f" and {len(distinct) - 20} more" if len(distinct) > 20 else "")


def _owned(value: str, owners: list[str], by: list[str]) -> Cell:
    more = f" and {len(owners) - 8} more" if len(owners) > 8 else ""
    kind = "seed " if by == ["seed"] else ""
    return Cell(value, [kind + ", ".join(owners[:8]) + more])
