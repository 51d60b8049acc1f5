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

from sim.sources.log_columns import LogSettings
from sim.sources.ties import spread_ties
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


def events_of(rows: pl.DataFrame, settings: LogSettings, *, slates: bool) -> pl.DataFrame:
    """Return the events of rows (log_rows.py) in no order, with their `row`; all rows of their users must be there.

    Args:
        rows: The rows, in the order of the log.
        settings: What they become.
        slates: Whether items were shown, so that rows are grouped by request.
    """
    events = _of_slates(rows, settings) if slates else _of_single_rows(rows, settings)
    return events.select("row", *(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items()))


def in_time_order(events: pl.DataFrame) -> pl.DataFrame:
    """Return events as they are replayed."""
    return events.sort("ts", "kind", "row", maintain_order=True).select(*COLUMNS)


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
    of_slates = rows.filter(pl.col("request").is_not_null() & pl.col("shows")).group_by(
        "user", "request", maintain_order=True
    )
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
