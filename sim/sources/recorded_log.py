"""Recorded logs: a table of user, item, action and time becomes a stream of events in event-time order.

    a row                                  becomes
    without rating and request             an action on the item; organic, since nothing shows the item
    with a rating                          an action "rate", or "like"/"dislike" by a threshold; or, as impression, a
                                           slate of one item and an action on it, both at the row's time
    with a label 0 or 1                    the item was shown, and with 1 clicked; without a request in a slate of its
                                           own
    with a request                         a place in the slate of all rows of that user and request, shown at the
                                           first of their times; and an action on it if the row has one
    with an empty request                  an organic action
    with a list of shown items             a slate, and a click on those that have one; and the row's own action on its
                                           own item, if a column names one
    none of these                          a bad row (log_rows.py)

Ids are kept as texts. The stream is sorted by time, stably; rows of one user at one instant get different times
(ties.py). Memory does not grow with the log:

    1. batches of rows    table.py cuts them, log_rows.py brings them into one form
    2. all of a user      rows sorted by a hash of the user, in runs on disk (runs.py)
    3. events             log_events.py, some users at a time
    4. time order         events sorted by time, in runs again, and kept in parts
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl
from xxhash import xxh3_128

from sim.errors import SimError
from sim.local_times import LocalTimes
from sim.sources.earliest import EarliestRows
from sim.sources.item_records import Catalogue
from sim.sources.log_columns import LogSettings
from sim.sources.log_events import events_of, in_time_order
from sim.sources.log_rows import LogRows
from sim.sources.log_summary import LogSummary
from sim.sources.rows.actions import negations
from sim.sources.rows.padding import NOTHING
from sim.sources.runs import RUN_ROWS, Runs
from sim.sources.source import SourceEvent, action, impression
from sim.sources.tables.bad_rows import BadRows
from sim.sources.tables.batch import AnyTable, Batch, Enough, never
from sim.sources.tables.scratch import Scratch, write_rows
from stream.schema.topics import SourceTopic

_SLICE: Final = 10_000  # events held as Python objects at once
_USER_KEY: Final = "user_key"


@dataclass(frozen=True, slots=True)
class EventParts:
    """Events in time order: one part in memory, or several on disk that follow one another."""

    parts: Sequence[pl.DataFrame | Path]
    lengths: Sequence[int]
    first_ms: int
    last_ms: int
    scratch: Scratch | None = None
    """The folder of the parts, deleted with this object."""

    def read(self, number: int) -> pl.DataFrame:
        """Return the events of a part."""
        part = self.parts[number]
        return part if isinstance(part, pl.DataFrame) else pl.read_parquet(part, glob=False)


@dataclass(frozen=True, slots=True)
class RecordedLog:
    """A log in event-time order, as a sim.sources.source.Source."""

    name: str
    fingerprint: str
    parts: EventParts
    catalogue: Catalogue
    read_as: str
    """How its times were read."""
    summary: LogSummary = field(default_factory=LogSummary)
    remarks: Sequence[str] = ()
    """Sentences about how it was read."""

    @property
    def table(self) -> pl.DataFrame:
        """All its events (log_events.py), in memory."""
        return pl.concat([self.parts.read(number) for number in range(len(self.parts.parts))])

    @property
    def first_ms(self) -> int:
        """Event time of the first event."""
        return self.parts.first_ms

    @property
    def last_ms(self) -> int:
        """Event time of the last event."""
        return self.parts.last_ms

    @property
    def users(self) -> int:
        """Number of users."""
        return self.summary.users

    @property
    def items(self) -> int:
        """Number of items that are shown or acted on."""
        return self.summary.items

    def __len__(self) -> int:
        return sum(self.parts.lengths)

    def events(self, start: int = 0) -> Iterator[SourceEvent]:
        """Yield the events from number `start` on."""
        for number, length in enumerate(self.parts.lengths):
            if start < length:
                yield from _events(self.parts.read(number).slice(start))
            start = max(start - length, 0)


def _events(table: pl.DataFrame) -> Iterator[SourceEvent]:
    for part in table.iter_slices(_SLICE):
        for ts, kind, user, item, name, value, request, items in part.iter_rows():
            if kind == SourceTopic.ACTIONS:
                yield action(user, item, name, ts, request, value)
            else:
                yield impression(user, request, items, ts)


@dataclass(frozen=True, slots=True)
class ReadLog:
    """A log that was read: its events, how its times were read, and what was counted."""

    parts: EventParts
    read_as: str
    summary: LogSummary
    remarks: Sequence[str]
    early: bool
    """Whether its times lie before March 1973, which a remark says."""


def read_events(table: AnyTable, settings: LogSettings, run_rows: int = RUN_ROWS) -> ReadLog:
    """Read the events of a table.

    Args:
        table: The rows.
        settings: How they are read.
        run_rows: Rows held in memory at once.

    Raises:
        SimError: A file, a column or a cell cannot be read.
    """
    scratch = Scratch()
    earliest = EarliestRows(settings.limit, run_rows) if settings.limit is not None else None
    rows, bad = _open(table, settings) if earliest is None else _open_to(earliest, table, settings)
    by_user = Runs(scratch.folder, _USER_KEY, run_rows)
    for part in earliest or rows:
        by_user.add(part.with_columns(pl.col("user").hash().reinterpret(signed=True).alias(_USER_KEY)))
    bad.finish(rows.read)
    summary = LogSummary(
        read=rows.read,
        bad=bad.counts,
        without_item=rows.left_out,
        item_column=settings.item,
        empty=frozenset(rows.empty),
    )
    by_time = Runs(scratch.folder, "ts", run_rows)
    for users in by_user.buckets():
        own = users.drop(_USER_KEY).sort("row", maintain_order=True)
        kept = summary.add_rows(own, slates=rows.slates, drop_duplicates=settings.drop_duplicates)
        events = events_of(kept, settings, slates=rows.slates)
        summary.add_events(events)
        by_time.add(events)
    if by_time.empty:
        raise SimError(f"{table.name} has no row that can be replayed: {'; '.join(summary.losses())}")
    remarks = [*_remarks(rows, settings, summary), *(earliest.remarks(rows) if earliest else ())]
    return ReadLog(_parts(by_time, scratch), rows.times.read_as, summary, remarks, rows.times.early)


def _open(table: AnyTable, settings: LogSettings, enough: Enough = never) -> tuple[LogRows, BadRows]:
    bad = BadRows(settings.skip_bad, Path(settings.bad_rows) if settings.bad_rows else None)
    read = table.batches(settings.columns(table.columns), enough=enough)
    batches = ((file, Batch(settings.with_first_values(batch.frame), batch.bad)) for file, batch in read)
    return LogRows(batches, settings, bad, table.name), bad


def _open_to(earliest: EarliestRows, table: AnyTable, settings: LogSettings) -> tuple[LogRows, BadRows]:
    """Open as much of a table as is needed, and take its rows."""
    while True:
        rows, bad = _open(table, settings, earliest.settles)
        earliest.take(rows)
        if not table.lengthen(earliest.settles, whole=not earliest.in_order):
            return rows, bad
        bad.close()
        earliest.clear()


def _parts(by_time: Runs, scratch: Scratch) -> EventParts:
    parts: list[pl.DataFrame | Path] = []
    lengths = list[int]()
    first = last = 0
    alone = by_time.in_memory
    for number, bucket in enumerate(by_time.buckets()):
        events = in_time_order(bucket)
        first = first if lengths else int(events["ts"][0])
        last = int(events["ts"][-1])
        lengths.append(len(events))
        if alone:
            parts.append(events)
        else:
            path = scratch.folder / f"part-{number}.parquet"
            write_rows(events, path)
            parts.append(path)
    return EventParts(parts, lengths, first, last, scratch)


def _remarks(rows: LogRows, settings: LogSettings, summary: LogSummary) -> list[str]:
    said = []
    if rows.actions.by_label:
        nothing = ", and those with nothing were not" if rows.actions.blank_is_no else ""
        said.append(
            f"Column {settings.action!r} holds labels: every row was shown, those with {rows.actions.yes} were "
            f"clicked{nothing}."
        )
    elif settings.action is not None and (odd := negations(list(summary.actions))):
        said.append(
            f"{', '.join(map(repr, odd))} of column {settings.action!r} reads like no action, but is one here, by that "
            "name: if it means that an item was shown and not acted on, write 'impression' for it, or labels 0 and 1."
        )
    for name, count in rows.later.items():
        said.append(f"{count:,} of {rows.read:,} rows have their id in {name!r}, as no column named before it has one.")
    if rows.labels_of_slates:
        said.append(f"Column {settings.clicked!r} has a label for each of the items in {settings.shown!r}.")
    for name, padding in rows.padding.items():
        what = "nothing or NaN" if padding.text == NOTHING else repr(padding.text)
        said.append(f"Lists of column {name!r} are filled up with {what} at their {padding.side}, which is no item.")
    if (some := rows.times.offsets)[True] and some[False]:
        said.append(
            f"{some[False]:,} times have no offset, beside {some[True]:,} that have one; they are read by the clock of "
            f"{rows.times.local.zone} (--time-zone)."
        )
    if rows.times.local.repeated:
        said.append(_of_autumn(rows.times.local))
    if settings.shown is not None and set(summary.slate_sizes) == {1} and summary.slates > 1:
        said.append(f"Each slate of column {settings.shown!r} shows one item; are its ids separated by another sign?")
    if rows.times.little:
        said.append(
            f"Column {settings.time_offset!r}, read as milliseconds, adds less than 100 seconds to any date; if it is "
            "something else, say what by --time-unit (s, minutes, hours)."
        )
    if rows.times.coarse:
        said.append("Its times are float32, which cannot tell times less than 128 s apart: write them as float64.")
    if rows.times.early:
        said.append(
            "Its times lie before 1973, as if counted from the log's own start; if they are something else, say what "
            "by --time-unit or --time-format."
        )
    return said


def _of_autumn(local: LocalTimes) -> str:
    said = (
        f"{local.repeated:,} rows lie in an hour that occurs twice, as summer time ends (--time-zone {local.zone}): by "
        f"their order {local.second:,} are of its second pass, the other {local.repeated - local.second:,} are read as "
        "its first."
    )
    if local.unordered:
        said += f" {local.unordered:,} of these are ambiguous, as the times of the rows around them do not rise."
    return said


def fingerprint(*parts: str) -> str:
    """Return a short text that is equal only for equal parts."""
    return xxh3_128("\0".join(parts).encode()).hexdigest()
