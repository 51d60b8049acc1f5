"""The reorder buffer of one partition: events wait here until the watermark has passed them.

    clock of a topic = the largest time that its records before this one have moved it to (stream/schema/record_time.py)
    late             = ts < clock of the event's own topic - lateness
    watermark        = min over the topics of their clocks - lateness

So whether an event is late depends on its own topic's log alone, and not on how far the others have been read. None
that is accepted precedes the watermark: its ts is no less than its own topic's clock - lateness, and the watermark is
no more than that. Events with ts < watermark are handed out, instant by instant.

All waiting events are in memory, by time. Those still waiting at the end of a batch are on disk as well.
"""

import heapq
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from stream.schema.dead_letters import Reason, RefusedError
from stream.schema.events import Event, decode_waiting
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import SourceTopic
from stream.store import layout

NEVER_MS: Final = -(2**62)  # the clock of a topic that has shown nothing yet


class Watermark:
    """The clocks of one partition's topics, and their watermark, which never falls.

    Args:
        lateness_ms: The disorder that is allowed within a topic.
        clock_ms: The clock of each topic, by its number.
        at_ms: Where the watermark stands.
    """

    def __init__(self, lateness_ms: int, clock_ms: list[int] | None = None, at_ms: int = NEVER_MS) -> None:
        self.lateness_ms = lateness_ms
        self.clock_ms = clock_ms or [NEVER_MS] * len(SourceTopic)
        self.at_ms = at_ms

    def move(self, source: SourceTopic, reached_ms: int) -> bool:
        """Move a topic's clock, unless it is there already; what is older, less the lateness, is late from now on."""
        if moves := reached_ms > self.clock_ms[source]:
            self.clock_ms[source] = reached_ms
        return moves

    def refuse_late(self, source: SourceTopic, ts_ms: int) -> None:
        """Refuse an event that its topic's clock has passed by more than the lateness.

        The watermark itself decides only after `lateness_s` has been raised: what was joined before stays joined.

        Raises:
            RefusedError: It is late.
        """
        passed_ms = max(self.clock_ms[source] - self.lateness_ms, self.at_ms)
        if ts_ms < passed_ms:
            if self.clock_ms[source] >= END_OF_TIME_MS:
                raise RefusedError(Reason.LATE, f"ts {ts_ms} comes after a replay has ended the log of {source.topic}")
            raise RefusedError(
                Reason.LATE, f"ts {ts_ms} lies {passed_ms - ts_ms} ms behind what {source.topic} may still bring"
            )

    def advance(self) -> int:
        """Move as far as all topics allow, and return the watermark in ms."""
        reached = min(self.clock_ms)
        if reached > NEVER_MS:
            self.at_ms = max(self.at_ms, reached - self.lateness_ms)
        return self.at_ms


class BufferedEvent(Struct, gc=False):
    """One event that waits, and the record it came in."""

    event: Event
    source: SourceTopic
    offset: int
    value: bytes
    on_disk: bool = False
    joined: bool = False

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
        stored: The events that are on disk, as (key, value) of the store.
    """

    def __init__(self, stored: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._times: list[int] = []  # a heap of the keys of `_at`
        self._at: dict[int, list[BufferedEvent]] = {}
        self._unwritten: list[BufferedEvent] = []  # some of them joined since
        self._deleted: list[bytes] = []
        self._count = 0
        self.bytes = 0  # of the records of all waiting events
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
        """Let an event wait."""
        self._insert(buffered)
        self._unwritten.append(buffered)

    def pop(self) -> list[BufferedEvent]:
        """Remove the events of the earliest time and return them in the order of their sort keys."""
        ts_ms = heapq.heappop(self._times)
        popped = self._at.pop(ts_ms)
        self._count -= len(popped)
        for buffered in popped:
            buffered.joined = True
            self.bytes -= len(buffered.value)
            if buffered.on_disk:
                self._deleted.append(buffered.key)
        if len(popped) > 1:
            popped.sort(key=_SORT_KEY)
        return popped

    def write_back(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Return what to write and to delete (value None) so that the disk holds exactly what waits."""
        for buffered in self._unwritten:
            if not buffered.joined:
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
        self.bytes += len(buffered.value)


_SORT_KEY: Final = attrgetter("sort_key")
