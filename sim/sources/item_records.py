"""Catalogues of recorded logs: a table of items becomes records of topic `items`.

A row is one item: its id, its title if there is one, and every other column as a feature; names of columns may be in
any case, and blanks around a text are no part of it. A text with `|` between its parts ("Comedy|Drama"), or a list, is
a feature with several values; an empty cell, NaN, or a text that exports write for nothing, as NULL, is no title and no
feature. A text that is a number or a boolean as JSON writes it is that (true also as pandas writes it, True), in a
column of nothing else also one with a decimal comma, so that a catalogue has the same features in any format.
"""

import math
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import msgspec
import polars as pl

from sim.errors import SimError
from sim.sources.roles.names import best_of
from sim.sources.roles.resolve import alternatives
from sim.sources.source import item_record
from sim.sources.tables.bad_rows import BadRows
from sim.sources.tables.batch import ROW, AnyFile
from sim.sources.tables.cells import (
    NO_VALUES,
    Fault,
    are_whole,
    given_ids,
    holds_lists,
    id_faults,
    ids_of,
    with_points,
    without_fraction,
)
from sim.sources.tables.settings import TableSettings
from sim.sources.tables.table import Table, open_table

ID_COLUMNS = ("item_id", "id", "item", "itemid", "movieId", "movie_id", "product_id", "article_id", "news_id")
TITLE_COLUMNS = ("title", "name", "item_name", "movie_title", "prod_name", "product_name", "headline")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SEVERAL: Final = r"(cats?|categor(y|ies)|tags?|genres?|ids|labels?|topics?|keywords?|colou?rs|sizes|groups)$"
"""Names of columns whose commas stand between values."""
_BOOLEANS: Final = {"true": True, "false": False}
_WHOLE: Final = 1 << 63  # whole numbers from here on are floats

Catalogue = list[tuple[str, bytes]]


class ReadItems(NamedTuple):
    """A catalogue, and what its columns are."""

    records: Catalogue
    title: str | None
    features: list[str]
    like_titles: str | None = None
    """Without titles, the column that may hold them."""

    @property
    def remark(self) -> str:
        """A sentence about its columns."""
        others = f"features are {', '.join(self.features)}" if self.features else "it has no features"
        if self.title is not None:
            return f"Titles are in {self.title!r}; {others}."
        column = shlex.quote(self.like_titles or "COLUMN")
        return f"No column of the catalogue is plainly the title, so items have none (--title {column}); {others}."


def read_items(
    path: str,
    item_column: str,
    ts_ms: int,
    *,
    item_id: str | None = None,
    title: str | None = None,
    features: str | None = None,
    settings: TableSettings | None = None,
    bad: BadRows | None = None,
) -> ReadItems:
    """Read a catalogue of any format.

    Args:
        path: A file, folder or glob.
        item_column: The log's column of items, or several with commas between; the catalogue's id column has the name
            of one of them, or one of ID_COLUMNS.
        ts_ms: The time of the records.
        item_id: The id column, where it is known.
        title: The title column, where it is known; otherwise the first of TITLE_COLUMNS, if there is one.
        features: The columns of features, with commas between; otherwise all others.
        settings: How the files are written.
        bad: Takes rows without an id, with the id of an earlier row, or that cannot be read; None: none are allowed.

    Raises:
        SimError: The table cannot be read, has no id column, or has more bad rows than are allowed.
    """
    bad = bad or BadRows(None, None)
    settings = settings or TableSettings()
    if any(name is not None and name.isdigit() for name in (item_id, title)):
        settings = replace(settings, numbered=True)
    table = open_table([path], settings)
    names = [item_id] if item_id else list(dict.fromkeys((item_column, *alternatives(item_column, ()), *ID_COLUMNS)))
    id_column = (item_id if item_id in table.columns else None) if item_id else _id_column(names, table)
    if id_column is None:
        raise SimError(
            f"{table.name} has none of the columns {', '.join(names)} for the item's id; its columns are "
            f"{', '.join(table.columns)}. Name it by --item-id."
        )
    wanted = alternatives(features, table.columns) if features is not None else table.readable
    _refuse_missing(table, id_column, title, wanted)
    title_column = title or _first(TITLE_COLUMNS, table.readable)
    _refuse_others(table)
    table = table.reopened(replace(settings, texts=tuple(name for name in (id_column, title_column) if name)))
    frames = []
    for file, batch in table.batches([name for name in (id_column, title_column, *wanted) if name]):
        bad.add(file, batch.bad)
        frames.append(batch.frame)
    frame = _joined(frames)
    rows = len(frame) + bad.counts.total()
    frame = _good(frame, id_column, title_column, _Whole(table.name, table.files[0].kind), bad).drop(ROW)
    bad.finish(rows)
    if frame.is_empty():
        raise SimError(f"{table.name} has no rows; there is nothing to replay.")
    others = [name for name in frame.columns if name not in (id_column, title_column)]
    like_titles = next((name for name in others if _may_be_titles(frame[name])), None)
    return ReadItems(catalogue(frame, id_column, title_column, ts_ms), title_column, others, like_titles)


def _id_column(names: Sequence[str], table: Table) -> str | None:
    """Return the first of some names, otherwise the column whose name is that of a log's items."""
    best = best_of("item", table.readable)
    return _first(names, table.columns) or (best.column if best is not None and best.certainty == "sure" else None)


def _refuse_others(table: Table) -> None:
    """Refuse files without a column that the first one has."""
    first = table.files[0]
    for file in table.files[1:]:
        missing = [name for name in table.readable if name not in file.columns]
        if missing and file.kind != "json":
            raise SimError(
                f"{file.name} has no column {missing[0]!r}, which {first.name} has; the files of a catalogue have the "
                f"same columns. Its own are {', '.join(file.columns)}."
            )


def _may_be_titles(column: pl.Series) -> bool:
    """Return whether a column is of texts, by its name titles or names, of which few are there twice."""
    if column.dtype != pl.String or not re.search(r"(title|name|headline|caption)s?$", column.name.lower()):
        return False
    given = column.drop_nulls()
    return len(given) > 0 and given.n_unique() * 2 > len(given)


def _refuse_missing(table: Table, id_column: str, title: str | None, features: Sequence[str]) -> None:
    for column in (title, *features):
        if column is not None and column not in table.columns:
            raise SimError(f"{table.name} has no column {column!r}; its columns are {', '.join(table.columns)}.")
    for name in (id_column, title):
        if name in table.columns and name not in table.readable:
            raise SimError(
                f"{table.name} has {name!r} in lists, and an item has one id and one title; name another of its "
                f"columns {', '.join(table.readable)}."
            )


def _joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return all rows; a column that holds lists in some frames has lists of one in the others."""
    lists = {name for frame in frames for name in frame.columns if isinstance(frame[name].dtype, pl.List)}
    return pl.concat([_with_lists(frame, lists) for frame in frames], how="vertical_relaxed")


def _with_lists(frame: pl.DataFrame, names: Collection[str]) -> pl.DataFrame:
    scalar = [name for name in names if not isinstance(frame[name].dtype, pl.List)]
    return frame.with_columns(pl.when(pl.col(name).is_not_null()).then(pl.concat_list(name)) for name in scalar)


class _Whole(NamedTuple):
    """All files of a catalogue, for errors."""

    name: str
    kind: str


def _good(frame: pl.DataFrame, id_column: str, title_column: str | None, owner: AnyFile, bad: BadRows) -> pl.DataFrame:
    """Return the rows without a fault, their ids as texts."""
    texts = ids_of(frame[id_column])
    texts = without_fraction(texts) if are_whole(texts) else texts
    repeated = Fault(~texts.is_first_distinct(), id_column, "is the id of an earlier row")
    lists = [name for name in (title_column,) if name and holds_lists(frame[name])]
    titles = [Fault(frame[name].is_not_null(), name, "is a list") for name in lists]
    good = bad.drop(owner, frame, [*id_faults(texts), repeated, *titles])
    frame = frame.with_columns(texts)
    return frame if good is None else frame.filter(good)


def catalogue(frame: pl.DataFrame, id_column: str, title_column: str | None, ts_ms: int) -> Catalogue:
    """Return the records of a table of items, in its order; a title that is no text becomes one."""
    features = [name for name in frame.columns if name not in (id_column, title_column)]
    if title_column is not None:
        frame = frame.with_columns(given_ids(frame[title_column]))
    frame = frame.with_columns(
        with_points(frame[name])
        for name in features
        if frame[name].dtype == pl.String and not re.search(_SEVERAL, name.lower())
    )
    return [
        (
            row[id_column],
            item_record(row[id_column], ts_ms, row[title_column] if title_column else None, _features(row, features)),
        )
        for row in frame.iter_rows(named=True)
    ]


def _features(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    values = {name: _value(row[name]) for name in names if not _is_nothing(row[name])}
    return {name: value for name, value in values.items() if value != []}


def _is_nothing(raw: Any) -> bool:
    if isinstance(raw, str):
        return raw.strip().lower() in NO_VALUES
    return raw in (None, "", []) or (isinstance(raw, float) and not math.isfinite(raw))


def _value(raw: Any) -> Any:
    if isinstance(raw, list):
        return [_scalar(part) for each in raw for part in _parts(each) if not _is_nothing(part)]
    parts = _parts(raw)
    return _scalar(raw) if len(parts) == 1 else [_scalar(part) for part in parts if not _is_nothing(part)]


def _parts(raw: Any) -> list[Any]:
    """Return the parts of a text with `|` between them, also of one in a list; anything else is one."""
    return raw.split("|") if isinstance(raw, str) else [raw]


def _scalar(raw: Any) -> Any:
    if isinstance(raw, int | float | list):
        return raw
    if isinstance(raw, dict):
        return msgspec.json.encode(raw, enc_hook=str).decode()
    text = str(raw).strip()
    if text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    if not math.isfinite(number):
        return text
    return int(text) if text.lstrip("-").isdigit() and abs(number) < _WHOLE else number


def _first(wanted: Sequence[str], there: Sequence[str]) -> str | None:
    """Return the first of some names that a table has, otherwise the first that it has in another case."""
    exact = next((name for name in wanted if name in there), None)
    plain = {name.lower().replace("-", "_").replace(" ", "_"): name for name in reversed(there)}
    return exact or next((plain[name.lower()] for name in wanted if name.lower() in plain), None)
