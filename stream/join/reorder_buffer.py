"""The reorder buffer of one partition: events wait here until the watermark has passed them.

    watermark = min over the source topics of (largest ts or heartbeat seen) - allowed lateness

It says how far event time has surely come. Events with ts < watermark are handed out, instant by instant; an event that
arrives with ts < watermark is late. Only wall time can excuse a silent topic: one that the worker calls idle does not
hold the others back. Where all are idle the furthest decides.

All waiting events are in memory, by time. Those still waiting at the end of a batch are on disk as well.
"""

import heapq
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from stream.schema.dead_letters import Reason, RefusedError
from stream.schema.events import Event, decode_waiting
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import SourceTopic
from stream.store import layout

NEVER_MS: Final = -(2**62)  # the time of a topic that has shown nothing yet


class Watermark:
    """The watermark of one partition; it never falls.

    Args:
        lateness_ms: The disorder that is allowed.
        high_ms: The largest time that each source has shown, by its number.
        at_ms: Where the watermark stands.
    """

    def __init__(self, lateness_ms: int, high_ms: list[int] | None = None, at_ms: int = NEVER_MS) -> None:
        self.lateness_ms = lateness_ms
        self.high_ms = high_ms or [NEVER_MS] * len(SourceTopic)
        self.at_ms = at_ms

    def saw(self, source: SourceTopic, ts_ms: int) -> None:
        """Note an event's or a heartbeat's time."""
        if ts_ms > self.high_ms[source]:
            self.high_ms[source] = ts_ms

    def advance(self, idle: Collection[SourceTopic] = ()) -> int:
        """Move as far as the topics that are not idle allow, and return the watermark in ms."""
        busy = [high for source, high in enumerate(self.high_ms) if source not in idle]
        reached = min(busy) if busy else max(self.high_ms)
        if reached > NEVER_MS:
            self.at_ms = max(self.at_ms, reached - self.lateness_ms)
        return self.at_ms


@dataclass(slots=True)
class BufferedEvent:
    """One event that waits, and the record it came in."""

    event: Event
    source: SourceTopic
    offset: int
    value: bytes
    on_disk: bool = False

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """Where it stands among the events of its time."""
        return self.event.sort_key

    @property
    def key(self) -> bytes:
        """Its key in the store."""
        return layout.waiting_key(self.event.user, self.event.ts_ms, self.source, self.offset)


class ReorderBuffer:
    """All waiting events of one partition.

    Args:
        watermark: Decides which events may still wait.
        stored: The events that are on disk, as (key, value) of the store.
    """

    def __init__(self, watermark: Watermark, stored: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.watermark = watermark
        self._times: list[int] = []  # a heap of the keys of `_at`
        self._at: dict[int, list[BufferedEvent]] = {}
        self._unwritten: dict[int, list[BufferedEvent]] = {}
        self._deleted: list[bytes] = []
        self._count = 0
        self.unreadable: list[tuple[SourceTopic, int, bytes, RefusedError]] = []  # to become dead-letters
        for key, value in stored:
            source, offset = layout.parse_waiting(key)
            try:
                self._insert(BufferedEvent(decode_waiting(source, value), source, offset, value, on_disk=True))
            except RefusedError as refused:
                self.unreadable.append((source, offset, value, refused))
                self._deleted.append(key)

    def __len__(self) -> int:
        return self._count

    @property
    def next_ms(self) -> int:
        """The earliest time of a waiting event, END_OF_TIME_MS if there is none."""
        return self._times[0] if self._times else END_OF_TIME_MS

    def add(self, buffered: BufferedEvent) -> None:
        """Let an event wait.

        Raises:
            RefusedError: The watermark has passed it: it is late.
        """
        ts_ms = buffered.event.ts_ms
        self.watermark.saw(buffered.source, ts_ms)
        if (behind := self.watermark.at_ms - ts_ms) > 0:
            raise RefusedError(Reason.LATE, f"ts {ts_ms} lies {behind} ms behind the watermark")
        self._insert(buffered)
        self._unwritten.setdefault(ts_ms, []).append(buffered)

    def pop(self) -> list[BufferedEvent]:
        """Remove the events of the earliest time and return them in the order of their sort keys."""
        ts_ms = heapq.heappop(self._times)
        popped = self._at.pop(ts_ms)
        self._unwritten.pop(ts_ms, None)
        self._count -= len(popped)
        self._deleted += [buffered.key for buffered in popped if buffered.on_disk]
        if len(popped) > 1:
            popped.sort(key=_SORT_KEY)
        return popped

    def write_back(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Return what to write and to delete (value None) so that the disk holds exactly what waits."""
        for waiting in self._unwritten.values():
            for buffered in waiting:
                buffered.on_disk = True
                yield buffered.key, buffered.value
        self._unwritten.clear()
        for key in self._deleted:
            yield key, None
        self._deleted.clear()

    def _insert(self, buffered: BufferedEvent) -> None:
        ts_ms = buffered.event.ts_ms
        at = self._at.get(ts_ms)
        if at is None:
            at = self._at[ts_ms] = []
            heapq.heappush(self._times, ts_ms)
        at.append(buffered)
        self._count += 1


_SORT_KEY: Final = attrgetter("sort_key")
