"""Recorded logs: a table of user, item, action and time becomes a stream of events in event-time order.

    a row                                  becomes
    without rating and request             an action on the item; organic, since nothing shows the item
    with a rating                          an action "rate", or "like"/"dislike" by a threshold; or, as impression, a
                                           slate of one item and an action on it, both at the row's time
    with a request                         a place in the slate of all rows of that user and request, shown at the
                                           first of their times; and an action on it if the row has one
    with an empty request                  an organic action

Ids are kept as texts. The stream is sorted by time, stably; rows of one user at one instant get different times
(ties.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from xxhash import xxh3_128

from sim.sources.item_records import Catalogue, read_items
from sim.sources.log_columns import LogSettings
from sim.sources.log_events import event_table
from sim.sources.source import SourceEvent, action, impression
from sim.sources.table_files import read_table
from stream.schema.topics import SourceTopic

_SLICE: Final = 10_000  # events held as Python objects at once


@dataclass(frozen=True, slots=True)
class RecordedLog:
    """A log in event-time order, as a sim.sources.source.Source."""

    name: str
    fingerprint: str
    table: pl.DataFrame
    """Its events (log_events.py)."""
    catalogue: Catalogue
    read_as: str
    """How its times were read."""

    @property
    def first_ms(self) -> int:
        """Event time of the first event."""
        return int(self.table["ts"][0])

    @property
    def last_ms(self) -> int:
        """Event time of the last event."""
        return int(self.table["ts"][-1])

    @property
    def users(self) -> int:
        """Number of users."""
        return self.table["user"].n_unique()

    @property
    def items(self) -> int:
        """Number of items that are shown or acted on."""
        return pl.concat([self.table["item"], self.table["items"].explode()]).drop_nulls().n_unique()

    def __len__(self) -> int:
        return len(self.table)

    def events(self, start: int = 0) -> Iterator[SourceEvent]:
        """Yield the events from number `start` on."""
        for part in self.table.slice(start).iter_slices(_SLICE):
            for ts, kind, user, item, name, value, request, items in part.iter_rows():
                if kind == SourceTopic.ACTIONS:
                    yield action(user, item, name, ts, request, value)
                else:
                    yield impression(user, request, items, ts)


def read_log(path: Path, settings: LogSettings, items: Path | None = None) -> RecordedLog:
    """Read a log from a file, and its catalogue from another.

    Raises:
        SimError: A file, a column or a cell cannot be read.
    """
    frame = read_table(path, settings.columns())
    table, read_as = event_table(frame, settings, str(path))
    records = read_items(items, settings.item, int(table["ts"][0])) if items else []
    content = [_content_digest(file) for file in (path, items) if file]
    return RecordedLog(path.name, fingerprint(*content, settings.tag()), table, records, read_as)


def fingerprint(*parts: str) -> str:
    """Return a short text that is equal only for equal parts."""
    return xxh3_128("\0".join(parts).encode()).hexdigest()


def _content_digest(path: Path) -> str:
    digest = xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
