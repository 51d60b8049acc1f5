"""Catalogues of recorded logs: a table of items becomes records of topic `items`.

A row is one item: its id, its title if there is one, and every other column as a feature. A text with `|` between its
parts ("Comedy|Drama"), or a list in Parquet, is a feature with several values; an empty cell is no feature.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sim.errors import SimError
from sim.sources.source import item_record
from sim.sources.table_files import ids, read_table

ID_COLUMNS = ("item_id", "id", "item")
TITLE_COLUMNS = ("title", "name")

Catalogue = list[tuple[str, bytes]]


def read_items(path: Path, item_column: str, ts_ms: int) -> Catalogue:
    """Read a catalogue; its id column has the name of the log's, or is one of ID_COLUMNS.

    Raises:
        SimError: The table cannot be read, has no id column, or has an id twice.
    """
    frame = read_table(path)
    names = list(dict.fromkeys((item_column, *ID_COLUMNS)))
    id_column = _first(names, frame.columns)
    if id_column is None:
        raise SimError(
            f"{path} has none of the columns {', '.join(names)} for the item's id; "
            f"its columns are {', '.join(frame.columns)}."
        )
    frame = frame.with_columns(ids(frame[id_column], str(path)))
    twice = frame[id_column].is_duplicated()
    if twice.any():
        row = int(twice.arg_true()[0])
        raise SimError(f"{path} gives the item {frame[id_column][row]!r} more than once; keep one row of each item.")
    return catalogue(frame, id_column, _first(TITLE_COLUMNS, frame.columns), ts_ms)


def catalogue(frame: pl.DataFrame, id_column: str, title_column: str | None, ts_ms: int) -> Catalogue:
    """Return the records of a table of items, in its order."""
    features = [name for name in frame.columns if name not in (id_column, title_column)]
    return [
        (
            row[id_column],
            item_record(row[id_column], ts_ms, row[title_column] if title_column else None, _features(row, features)),
        )
        for row in frame.iter_rows(named=True)
    ]


def _features(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: _value(row[name]) for name in names if row[name] not in (None, "", [])}


def _value(raw: Any) -> Any:
    if isinstance(raw, str) and "|" in raw:
        return [part for part in raw.split("|") if part]
    return raw if isinstance(raw, str | int | float | bool | list) else str(raw)


def _first(wanted: Sequence[str], there: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in there), None)
