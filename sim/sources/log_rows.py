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
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from shlex import quote
from typing import Final

import polars as pl

from sim.errors import SimError
from sim.sources.log_columns import LogSettings
from sim.sources.tables.bad_rows import BadRows
from sim.sources.tables.batch import ROW, Batch
from sim.sources.tables.cells import (
    NEGATIVE_LABELS,
    POSITIVE_LABELS,
    SHOWN_ACTIONS,
    Fault,
    are_labels,
    are_whole,
    holds_lists,
    id_faults,
    ids_of,
    kind_of,
    numbers_of,
    texts_of,
    without_fraction,
)
from sim.sources.tables.table import AnyFile
from sim.sources.tables.timestamps import TimeReader

_SAMPLE_ROWS: Final = 100_000
_BETWEEN: Final = ("|", ";", ",", " ")  # what separates the ids of a slate in one text
_LABELLED: Final = r"-[01]$"
_LABEL, _PARTS, _SHOWS = "\0label", "\0parts", "\0shows"

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
        self._kept = 0
        first, rows = list[tuple[AnyFile, Batch]](), 0
        for entry in batches:
            first.append(entry)
            rows += len(entry[1].frame)
            if rows >= _SAMPLE_ROWS:
                break
        self._batches: Iterable[tuple[AnyFile, Batch]] = chain(first, batches)
        frames = [batch.frame for _, batch in first if len(batch.frame)]
        self.by_label = self.shown_rows = self._labelled = False
        self._between: str | None = None
        if not frames:
            for file, batch in first:
                bad.add(file, batch.bad)
            bad.finish(bad.counts.total())
            raise SimError(f"{owner} has no rows; there is nothing to replay.")
        self.times = self._prepare(frames)

    def _prepare(self, frames: list[pl.DataFrame]) -> TimeReader:
        settings = self._settings
        for name in frames[0].columns:
            if holds_lists(frames[0][name]) and name not in (settings.shown, settings.clicked):
                raise SimError(
                    f"Column {name!r} of {self._owner} holds {kind_of(frames[0][name].dtype)}; make each element a row "
                    f"by --explode {quote(name)}, or name the column of a slate by --shown {quote(name)}."
                )
        if settings.action is not None and settings.shown is None:
            names = pl.concat([texts_of(frame[settings.action]) for frame in frames])
            names = names.str.to_lowercase().str.strip_chars()
            self.by_label = are_labels(names)
            self.shown_rows = self.by_label or bool(names.is_in(SHOWN_ACTIONS).any())
        ids = [settings.user] if settings.shown is not None else [settings.user, settings.item]
        self._whole = {name for name in ids if are_whole(pl.concat([ids_of(frame[name]) for frame in frames]))}
        if settings.shown is not None:
            self._prepare_slates(frames[0][settings.shown].drop_nulls())
        return TimeReader(settings.times(), _one_column([self._time(frame) for frame in frames]), self._owner)

    def _prepare_slates(self, sample: pl.Series) -> None:
        parts = sample
        if sample.dtype == pl.String:
            joined = sample.str.strip_chars()
            found = (each for each in _BETWEEN if joined.str.contains(each, literal=True).any())
            self._between = next(found, None)
            parts = self._split(sample)
        ids = parts.explode().drop_nulls()
        self._labelled = self._settings.clicked is None and int(ids.str.contains(_LABELLED).sum()) * 2 > len(ids)

    @property
    def slates(self) -> bool:
        """Whether items were shown, together or alone, so that rows are grouped by request."""
        return self._settings.request is not None or self._settings.shown is not None or self.shown_rows

    def _time(self, frame: pl.DataFrame) -> pl.Series:
        """Return the column of times; with an offset in digits, those of both are added later."""
        column, offset = frame[self._settings.time], self._settings.time_offset
        if offset is None or _is_number(frame[offset]):
            return column
        joined = column.cast(pl.String).str.strip_chars().str.head(10) + " " + frame[offset].cast(pl.String)
        return joined.alias(column.name)

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for file, batch in self._batches:
            self.file = file
            self._bad.add(file, batch.bad)
            self.read += len(batch.frame) + sum(bad.rows for bad in batch.bad)
            if len(batch.frame):
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
        requests = self._requests(frame)
        user, (ts, faults) = self._ids(frame[settings.user]), self._times(frame)
        faults = [*id_faults(user), *faults]
        if settings.request is not None:
            faults.append(id_faults(requests.alias(settings.request))[1])
        names, value, more = self._actions(frame)
        rows = pl.DataFrame(
            {
                ROW: frame[ROW],
                "ts": ts,
                "user": user,
                "action": names,
                "value": value,
                "request": requests,
            }
        )
        if settings.shown is None:
            rows = rows.with_columns(item=self._ids(frame[settings.item]))
            faults += [*id_faults(rows["item"].alias(settings.item)), *more]
        else:
            rows = rows.with_columns(**self._slate(frame))
            faults += [*self._slate_faults(rows), *more]
        if (good := self._bad.drop(file, frame, faults)) is not None:
            rows = rows.filter(good)
        rows = rows.with_row_index("row", offset=self._kept).with_columns(pl.col("row").cast(pl.Int64))
        if self.shown_rows and settings.request is None:
            only_shown = pl.col("action").is_null() | self.by_label
            rows = rows.with_columns(request=pl.when(only_shown).then(pl.format("row-{}", pl.col("row") + 1)))
        if settings.shown is not None:
            rows = _as_rows(rows, labelled=self._labelled)
        shows = pl.lit(True) if settings.shown is None else pl.col(_SHOWS)
        return rows.select("row", "ts", "user", "item", "action", "value", "request", shows=shows)

    def _ids(self, column: pl.Series) -> pl.Series:
        texts = ids_of(column)
        return without_fraction(texts) if column.name in self._whole else texts

    def _times(self, frame: pl.DataFrame) -> tuple[pl.Series, list[Fault]]:
        ts, faults = self.times.read(self._time(frame))
        offset = self._settings.time_offset
        if offset is None or not _is_number(frame[offset]):
            return ts, faults
        values, more = numbers_of(frame[offset])
        scale = {"s": 1000, "us": 1e-3, "ns": 1e-6}.get(self._settings.time_unit or "ms", 1)
        return ts + (values * scale).round().cast(pl.Int64, strict=False), [*faults, *more]

    def _actions(self, frame: pl.DataFrame) -> tuple[pl.Series, pl.Series, list[Fault]]:
        """Return the name of each row's action, its rating, and what is wrong with them."""
        settings, nulls = self._settings, pl.repeat(None, len(frame), dtype=pl.Float64, eager=True)
        if settings.rating is not None:
            value, faults = numbers_of(frame[settings.rating])
            return _of_ratings(value, settings), value, faults
        if settings.action is None:
            return pl.repeat("click", len(frame), eager=True), nulls, []
        texts = texts_of(frame[settings.action]).str.strip_chars()
        small = texts.str.to_lowercase()
        if self.by_label:
            clicked = small.is_in(POSITIVE_LABELS)
            wrong = ~(clicked | small.is_in(NEGATIVE_LABELS)).fill_null(False)
            if settings.request is not None:
                wrong &= ~(small == "").fill_null(True)
            fault = Fault(wrong, settings.action, "is no label, 0 or 1, as the first rows have")
            names = pl.select(pl.when(clicked).then(pl.lit("click"))).to_series()
            return names, nulls, [fault]
        missing = texts.is_null() | (texts == "").fill_null(True)
        faults = id_faults(texts)[1:2]
        if settings.request is None and settings.shown is None:
            faults.append(Fault(missing, settings.action, "is no action"))
        elif settings.request is not None and settings.shown is None:
            idle = missing & self._requests(frame).is_null()
            faults.append(Fault(idle, settings.action, "is no action, and the row has no request either"))
        return texts.set(missing | small.is_in(SHOWN_ACTIONS).fill_null(False), None), nulls, faults

    def _requests(self, frame: pl.DataFrame) -> pl.Series:
        """Return each row's request; null where the cell is empty, which makes the row an organic action."""
        if self._settings.request is None:
            return pl.repeat(None, len(frame), dtype=pl.String, eager=True)
        texts = ids_of(frame[self._settings.request])
        return texts.set((texts == "").fill_null(False), None)

    def _slate(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        """Return the parts of each row's slate, those clicked, and the item of a row that is no slate."""
        settings = self._settings
        assert settings.shown is not None
        item = settings.item if settings.item in frame.columns else None
        nothing = pl.repeat(None, len(frame), dtype=pl.String, eager=True)
        clicked = self._split(frame[settings.clicked]) if settings.clicked else nothing.cast(pl.List(pl.String))
        return {
            _PARTS: self._split(frame[settings.shown]),
            _LABEL: clicked,
            "item": ids_of(frame[item]) if item else nothing,
        }

    def _slate_faults(self, rows: pl.DataFrame) -> list[Fault]:
        settings = self._settings
        assert settings.shown is not None
        parts, item = rows[_PARTS], rows["item"]
        empty = (parts.list.len() == 0).fill_null(True) & item.is_null()
        faults = [Fault(empty, settings.shown, "is no slate")]
        if self._labelled:
            marked = parts.list.eval(pl.element().str.contains(_LABELLED)).list.all()
            faults.append(Fault(~marked.fill_null(True), settings.shown, "has items without -0 or -1 behind them"))
        if settings.clicked is not None:
            strange = (rows[_LABEL].list.set_difference(parts).list.len() > 0) & (parts.list.len() > 0)
            faults.append(Fault(strange.fill_null(False), settings.clicked, "has items that were not shown"))
        return faults

    def _split(self, column: pl.Series) -> pl.Series:
        if isinstance(column.dtype, pl.List):
            return column.cast(pl.List(pl.String)).list.eval(pl.element().str.strip_chars())
        plain = column.cast(pl.String).str.replace_all(r"[\[\]\"']", "").str.strip_chars()
        parts = plain.str.split(self._between or " ")
        return parts.list.eval(pl.element().str.strip_chars().filter(pl.element().str.strip_chars() != ""))


def _one_column(times: list[pl.Series]) -> pl.Series:
    """Return columns of several files as one; where instants and others are mixed, the others."""
    plain = [column for column in times if not column.dtype.is_temporal()] or times[:1]
    if any(column.dtype != plain[0].dtype for column in plain):
        if any(holds_lists(column) for column in plain):
            return next(column for column in plain if holds_lists(column))
        plain = [column.cast(pl.String) for column in plain]
    return pl.concat(plain)


def _is_number(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or numbers_of(column.head(1000))[0].is_not_null().any()


def _of_ratings(rating: pl.Series, settings: LogSettings) -> pl.Series:
    if settings.positive_from is None:
        return pl.repeat("rate", len(rating), eager=True)
    low = "dislike" if settings.rating_as == "action" else None
    liked = pl.when(rating >= settings.positive_from).then(pl.lit("like")).otherwise(pl.lit(low, pl.String))
    return pl.select(liked).to_series()


def _as_rows(rows: pl.DataFrame, *, labelled: bool) -> pl.DataFrame:
    """Return a row for each shown item, with a click if it has one, and the rows that are no slate."""
    is_slate = (pl.col(_PARTS).list.len() > 0).fill_null(False)
    slates = rows.filter(is_slate)
    slates = slates.with_columns(request=pl.coalesce("request", pl.format("row-{}", pl.col("row") + 1)))
    shown = slates.drop("item").explode(_PARTS).rename({_PARTS: "item"})
    item = pl.col("item")
    clicked = item.str.ends_with("-1") if labelled else item.is_in(pl.col(_LABEL)).fill_null(False)
    shown = shown.with_columns(
        action=pl.when(clicked).then(pl.lit("click")), item=item.str.head(-2) if labelled else item
    )
    parts = (shown, True), (rows.filter(~is_slate), False)
    shown, alone = (part.with_columns(pl.lit(shows).alias(_SHOWS)) for part, shows in parts)
    return pl.concat([shown, alone.select(shown.columns)]).sort("row", maintain_order=True)
