"""Rows of any log as rows of one form; what cannot be read goes to the bad rows.

column     holds
row        i64, counts the rows that are kept
ts         i64 ms, as recorded
user       text
item       text
action     text; null: the item was only shown
value      f64, a rating, or null
request    text; null: organic
shows      whether the row has a place in the slate of its request

Each row of a file is shown or acted on, or else counted: by what is wrong with it, or as one without an item in an
exploded list.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from shlex import quote
from typing import Final

import polars as pl

from sim.errors import SimError
from sim.sources.log_columns import LogSettings
from sim.sources.rows.actions import NO_LABEL, ActionReader
from sim.sources.rows.other_units import refuse_other_units
from sim.sources.rows.padding import Padding
from sim.sources.rows.slates import SHOWS, SlateReader, as_rows, is_slate
from sim.sources.rows.times import RowTimes, one_column
from sim.sources.tables.bad_rows import BadRows
from sim.sources.tables.batch import ROW, AnyFile, Batch
from sim.sources.tables.cells import (
    Fault,
    are_whole,
    given_ids,
    holds_lists,
    id_faults,
    ids_of,
    kind_of,
    without_fraction,
)

_SAMPLE_ROWS: Final = 100_000

Batches = Iterator[tuple[AnyFile, Batch]]


class LogRows:
    """Reads the rows of a log; what its first rows hold decides how all are read.

    Args:
        batches: The rows as the table gives them.
        settings: How they are read.
        bad: Takes what cannot be read.
        owner: The log, for errors.
    """

    def __init__(self, batches: Batches, settings: LogSettings, bad: BadRows, owner: str) -> None:
        self._settings, self._bad, self._owner = settings, bad, owner
        self.read = 0
        """Rows read so far, bad ones included."""
        self.left_out = 0
        """Rows so far without an item in an exploded list."""
        self.file: AnyFile
        """The file of the rows that were yielded last."""
        self.later = Counter[str]()
        """Rows so far by the column of their id, where it is not the first that a flag names."""
        self.empty: set[str]
        """Columns in which no row so far has a value."""
        self._kept = 0
        self._seen_shown = False
        first, rows = list[tuple[AnyFile, Batch]](), 0
        for entry in batches:
            first.append(entry)
            rows += len(entry[1].frame)
            if rows >= _SAMPLE_ROWS:
                break
        self._batches: Iterable[tuple[AnyFile, Batch]] = chain(first, batches)
        frames = [batch.frame for _, batch in first if len(batch.frame)]
        if not frames:
            for file, batch in first:
                bad.add(file, batch.bad)
            bad.finish(bad.counts.total())
            raise SimError(f"{owner} has no rows; there is nothing to replay.")
        self.empty = {name for name in frames[0].columns if name != ROW}
        self._prepare(frames)

    def _prepare(self, frames: list[pl.DataFrame]) -> None:
        settings, owner = self._settings, self._owner
        for name in frames[0].columns:
            if holds_lists(frames[0][name]) and name in settings.table().exploded:
                raise SimError(
                    f"Column {name!r} of {owner} holds lists in lists, of which --explode makes rows of the outer ones "
                    "alone: write one object for each element of those first (jq, or polars' explode)."
                )
            if holds_lists(frames[0][name]) and name not in (settings.shown, settings.clicked):
                raise SimError(
                    f"Column {name!r} of {owner} holds {kind_of(frames[0][name].dtype)}; make each element a row "
                    f"by --explode {quote(name)}, or name the column of a slate by --shown {quote(name)}."
                )
        labels = settings.action if settings.shown is None else None
        self.actions = ActionReader(
            settings.action,
            settings.rating,
            settings.positive_from,
            "dislike" if settings.rating_as == "action" else None,
            [frame[labels] for frame in frames] if labels else [],
        )
        self._slates: SlateReader | None = None
        if settings.shown is not None:
            item = settings.item if settings.item in frames[0].columns else None
            self._slates = SlateReader(settings.shown, settings.clicked, item, frames, owner)
        ids = [settings.user] if self._slates else [settings.user, settings.item]
        self._whole = {name for name in ids if are_whole(pl.concat([ids_of(frame[name]) for frame in frames]))}
        self.times = RowTimes(settings.times(), settings.time, settings.time_offset, frames, owner)
        if self.times.early and settings.time_unit is None:
            refuse_other_units(one_column([frame[settings.time] for frame in frames]), owner)

    @property
    def slates(self) -> bool:
        """Whether items were shown so far, together or alone, so that rows are grouped by request."""
        return self._settings.request is not None or self._slates is not None or self._seen_shown

    @property
    def labels_of_slates(self) -> bool:
        """Whether the column of what was clicked has a label for each item shown."""
        return self._slates is not None and self._slates.by_label

    @property
    def padding(self) -> dict[str, Padding]:
        """What fills up the lists of slates, by column."""
        return self._slates.padding if self._slates else {}

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for file, batch in self._batches:
            self.file = file
            self._bad.add(file, batch.bad)
            self.read += len(batch.frame) + sum(bad.rows for bad in batch.bad)
            if len(batch.frame):
                self.empty -= {name for name in self.empty if batch.frame[name].null_count() < len(batch.frame)}
                self.later += self._settings.later_values(batch.frame)
                rows = self._rows(file, batch.frame)
                self._kept += len(rows)
                if len(rows):
                    yield rows

    def _rows(self, file: AnyFile, frame: pl.DataFrame) -> pl.DataFrame:
        settings = self._settings
        if settings.explode is not None and settings.item in frame.columns:
            there = frame[settings.item].is_not_null()
            self.left_out += int((~there).sum())
            frame = frame.filter(there)
        requests, said = self._requests(frame), self.actions.read(frame)
        user, (ts, faults) = self._ids(frame[settings.user]), self.times.read(frame)
        faults = [*id_faults(user), *faults]
        if settings.request is not None:
            faults.append(id_faults(requests.alias(settings.request))[1])
        rows = pl.DataFrame(
            {
                ROW: frame[ROW],
                "ts": ts,
                "user": user,
                "action": said.names,
                "value": said.values,
                "request": requests,
                SHOWS: said.shown,
            }
        )
        if self._slates is not None:
            own, more = self._slates.read(frame, said.shown & said.names.is_null())
            rows = rows.hstack(own)
        else:
            rows = rows.with_columns(item=self._ids(frame[settings.item]))
            more = id_faults(rows["item"].alias(settings.item))
        faults += [*more, *said.faults, *self._idle(rows)]
        if (good := self._bad.drop(file, frame, faults)) is not None:
            rows = rows.filter(good)
        rows = rows.with_row_index("row", offset=self._kept).with_columns(pl.col("row").cast(pl.Int64))
        return self._placed(rows).select("row", "ts", "user", "item", "action", "value", "request", shows=SHOWS)

    def _idle(self, rows: pl.DataFrame) -> list[Fault]:
        """Return which rows would become no event: neither shown nor acted on."""
        settings, acted = self._settings, rows["action"].is_not_null()
        if settings.shown is not None:
            idle, item = ~rows.select(is_slate()).to_series(), rows["item"].is_not_null()
            reason = "is no action, and the row has no slate either"
            return [
                Fault(idle & ~item, settings.shown, "is no slate"),
                Fault(idle & item & ~acted, settings.action or settings.shown, reason),
            ]
        idle = ~acted & ~rows[SHOWS] & rows["request"].is_null()
        column = settings.action or settings.rating or settings.item
        reason = NO_LABEL if self.actions.by_label else "is no action"
        more = "" if settings.request is None else ", and the row has no request either"
        return [Fault(idle, column, reason + more)]

    def _placed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with a request of their own where they were shown by themselves, and whole slates as rows."""
        settings = self._settings
        if self._slates is not None:
            same = settings.clicked is not None and settings.clicked == settings.item
            labelled = self._slates.labelled
            return as_rows(rows.drop(SHOWS), labelled=labelled, named=self.actions.named, same=same)
        if settings.rating is None:
            self._seen_shown |= bool(rows[SHOWS].any())
        if self.slates:
            alone = pl.when(SHOWS).then(pl.format("row-{}", pl.col("row") + 1))
            rows = rows.with_columns(request=pl.coalesce("request", alone))
        return rows.with_columns(pl.lit(True).alias(SHOWS))

    def _ids(self, column: pl.Series) -> pl.Series:
        texts = ids_of(column)
        return without_fraction(texts) if column.name in self._whole else texts

    def _requests(self, frame: pl.DataFrame) -> pl.Series:
        """Return each row's request; null where the cell is empty."""
        if self._settings.request is None:
            return pl.repeat(None, len(frame), dtype=pl.String, eager=True)
        return given_ids(frame[self._settings.request])
