"""Rows of a log become a table of events in event-time order; the rules are in recorded_log.py.

column     impression                 action
ts         i64 ms                     i64 ms
kind       SourceTopic.IMPRESSIONS / ACTIONS
user       text                       text
item       null                       text
action     null                       text
value      null                       the rating, or null
request    text                       text, or null: organic
items      the slate's texts          null
"""

from typing import Final

import polars as pl

from sim.errors import SimError
from sim.sources.log_columns import LogSettings
from sim.sources.table_files import ids, numbers, refuse_missing, texts_of
from sim.sources.ties import spread_ties
from sim.sources.timestamps import event_times
from stream.schema.topics import SourceTopic

COLUMNS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "ts": pl.Int64,
    "kind": pl.Int8,
    "user": pl.String,
    "item": pl.String,
    "action": pl.String,
    "value": pl.Float64,
    "request": pl.String,
    "items": pl.List(pl.String),
}
_NO_ACTION: Final = ("", "impression")  # actions of items that were only shown


def event_table(frame: pl.DataFrame, settings: LogSettings, owner: str) -> tuple[pl.DataFrame, str]:
    """Return the events of the rows of the log `owner`, and how its times were read.

    Raises:
        SimError: A column is missing or a cell cannot be read.
    """
    refuse_missing(owner, frame.columns, settings.columns())
    times = event_times(frame[settings.time], owner)
    rows = pl.DataFrame(
        {
            "ts": times.ts_ms,
            "user": ids(frame[settings.user], owner),
            "item": ids(frame[settings.item], owner),
            "action": _action_names(frame, settings, owner),
            "value": numbers(frame[settings.rating], owner) if settings.rating else _nulls(frame, pl.Float64),
            "request": _requests(frame, settings, owner),
        }
    ).with_row_index("row")
    events = _of_slates(rows, settings) if settings.request else _of_single_rows(rows, settings)
    in_order = events.sort("ts", "kind", "row", maintain_order=True)
    return in_order.select(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items()), times.read_as


def _nulls(frame: pl.DataFrame, dtype: type[pl.DataType]) -> pl.Series:
    return pl.repeat(None, len(frame), dtype=dtype, eager=True)


def _requests(frame: pl.DataFrame, settings: LogSettings, owner: str) -> pl.Series:
    """Return each row's request; null where the cell is empty, which makes the row an organic action."""
    if not settings.request:
        return _nulls(frame, pl.String)
    texts = texts_of(frame[settings.request])
    texts = texts.set(texts == "", None)
    named = texts.is_not_null()
    ids(texts.fill_null("none"), owner)
    if settings.action and (idle := ~named & _action_names(frame, settings, owner).is_null()).any():
        raise SimError(
            f"Row {int(idle.arg_true()[0]) + 1} of {owner} (not counting a header) has neither a request in column "
            f"{settings.request!r} nor an action in column {settings.action!r}; give it one, or remove it."
        )
    return texts


def _action_names(frame: pl.DataFrame, settings: LogSettings, owner: str) -> pl.Series:
    """Return the name of each row's action; null where the item was only shown."""
    if settings.rating:
        return _of_ratings(numbers(frame[settings.rating], owner), settings)
    if not settings.action:
        return pl.repeat("click", len(frame), eager=True)
    column = frame[settings.action]
    if not settings.request:
        return ids(column, owner)
    texts = texts_of(column)
    return texts.set(texts.is_in(_NO_ACTION), None)


def _of_ratings(rating: pl.Series, settings: LogSettings) -> pl.Series:
    if settings.positive_from is None:
        return pl.repeat("rate", len(rating), eager=True)
    low = "dislike" if settings.rating_as == "action" else None
    liked = pl.when(rating >= settings.positive_from).then(pl.lit("like")).otherwise(pl.lit(low, pl.String))
    return pl.select(liked).to_series()


def _of_single_rows(rows: pl.DataFrame, settings: LogSettings) -> pl.DataFrame:
    rows = _earliest(_spread(rows, settings.shuffle_ties), settings.limit)
    if settings.rating_as == "action":
        return _as_actions(rows)
    rows = rows.with_columns(request=pl.format("row-{}", pl.col("row") + 1))
    shown = rows.select("row", "ts", "user", "request", items=pl.concat_list("item"))
    return _joined(shown, rows)


def _of_slates(rows: pl.DataFrame, settings: LogSettings) -> pl.DataFrame:
    """Return a slate for each user and request, and the actions, none earlier than its slate."""
    rows, seed = _earliest(rows, settings.limit), settings.shuffle_ties
    of_slates = rows.filter(pl.col("request").is_not_null()).group_by("user", "request", maintain_order=True)
    shown = of_slates.agg(pl.col("row").first(), pl.col("ts").min(), items=pl.col("item").unique(maintain_order=True))
    shown = _spread(shown, seed)
    begun = shown.select("user", "request", shown_ms="ts")
    acted = rows.filter(pl.col("action").is_not_null()).join(begun, ["user", "request"], "left", maintain_order="left")
    acted = acted.with_columns(ts=pl.max_horizontal("ts", "shown_ms")).drop("shown_ms")
    return _joined(shown, _spread(acted, seed))


def _earliest(rows: pl.DataFrame, limit: int | None) -> pl.DataFrame:
    return rows if limit is None else rows.sort("ts", "row").head(limit).sort("row")


def _spread(rows: pl.DataFrame, seed: int | None) -> pl.DataFrame:
    return rows.with_columns(pl.Series("ts", spread_ties(rows["user"], rows["ts"].to_numpy(), seed)))


def _joined(shown: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    impressions = shown.with_columns(kind=pl.lit(int(SourceTopic.IMPRESSIONS)))
    actions = _as_actions(rows.filter(pl.col("action").is_not_null()))
    return pl.concat([impressions, actions], how="diagonal")


def _as_actions(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(kind=pl.lit(int(SourceTopic.ACTIONS)), items=pl.lit(None, dtype=pl.List(pl.String)))
