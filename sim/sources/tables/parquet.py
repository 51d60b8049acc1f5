"""Parquet files: nested fields by dotted names, lists exploded into rows. Columns keep their types."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sim.errors import SimError
from sim.sources.tables.batch import ROW, Batch
from sim.sources.tables.cells import kind_of


def columns_of(path: Path) -> dict[str, str | None]:
    """Return the dotted names of a file's columns, each with that of the list it lies in."""
    return {name: inside for name, dtype in _schema(path).items() for name, inside in _names(name, dtype)}


def _schema(path: Path) -> pl.Schema:
    return pl.scan_parquet(path, glob=False).collect_schema()


def _names(name: str, dtype: pl.DataType, inside: str | None = None) -> Iterator[tuple[str, str | None]]:
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _names(f"{name}.{field.name}", _dtype(field.dtype), inside)
        return
    yield name, inside
    if isinstance(dtype, pl.List | pl.Array) and isinstance(inner := _dtype(dtype.inner), pl.Struct):
        yield from _names(name, inner, name)


def _dtype(dtype: Any) -> pl.DataType:
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made


def batches(path: Path, columns: Sequence[str], exploded: Sequence[str], size: int) -> Iterator[Batch]:
    """Yield the named columns; the rows of one exploded row have its number."""
    schema = _schema(path)
    lists = {name: f"\0{number}" for number, name in enumerate(exploded)}
    names = [name for name in columns if name not in lists]
    through = {name: next((each for each in exploded if name.startswith(each + ".")), None) for name in names}
    plain = {name: _path(schema, name) for name in names if through[name] is None}
    opened = {short: _path(schema, name) for name, short in lists.items()}
    start = 1
    scan = pl.scan_parquet(path, glob=False).select(**plain, **opened)
    _refuse_others(lists, scan.collect_schema())
    if not plain and not opened:
        return
    for part in scan.collect_batches(chunk_size=size, maintain_order=True):
        part = _plain(part)
        rows = part.with_row_index(ROW, offset=start).with_columns(pl.col(ROW).cast(pl.Int64))
        start += len(part)
        if lists:
            rows = _exploded(rows, list(opened))
        inner = {name: _field(pl.col(lists[list_]), name[len(list_) + 1 :]) for name, list_ in through.items() if list_}
        whole = {name: pl.col(short) for name, short in lists.items() if name in columns}
        yield Batch(_plain(rows.select(ROW, *(pl.col(name) for name in plain), **inner, **whole)), [])


def _refuse_others(lists: Mapping[str, str], schema: pl.Schema) -> None:
    """Refuse --explode of a column that holds no lists."""
    for name, short in lists.items():
        if not isinstance(schema[short], pl.List | pl.Array):
            raise SimError(f"--explode {name} is for lists, and that column holds {kind_of(schema[short])}; remove it.")


def _exploded(rows: pl.DataFrame, lists: Sequence[str]) -> pl.DataFrame:
    """Return a row for each element of the longest list, null where another has ended; one where all are empty."""
    sizes = {name: pl.col(name).list.len().fill_null(0) for name in lists}
    longest = pl.max_horizontal(*sizes.values(), 1)
    filled = {
        name: pl.concat_list(
            pl.col(name).fill_null(pl.lit([], dtype=rows.schema[name])),
            pl.lit(None, dtype=rows.schema[name].inner).repeat_by(longest - size),  # type: ignore[attr-defined]
        )
        for name, size in sizes.items()
    }
    return rows.with_columns(**filled).explode(*lists)


def _plain(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with lists for arrays, whose length is fixed, and texts for categories."""
    arrays = [name for name, dtype in rows.schema.items() if dtype == pl.Array]
    categories = [name for name, dtype in rows.schema.items() if dtype in (pl.Categorical, pl.Enum)]
    return rows.with_columns(pl.col(arrays).arr.to_list(), pl.col(categories).cast(pl.String))


def _path(schema: Mapping[str, pl.DataType], name: str) -> pl.Expr:
    if name in schema:
        return pl.col(name)
    first = next((each for each in schema if name.startswith(each + ".")), name)
    return _field(pl.col(first), name[len(first) + 1 :])


def _field(column: pl.Expr, rest: str) -> pl.Expr:
    for key in rest.split("."):
        column = column.struct.field(key)
    return column
