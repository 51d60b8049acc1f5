"""Events that wait for the watermark: in memory by time, on disk what is still waiting when a batch ends."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from stream.schema.events import Event
from stream.schema.topics import SourceTopic
from stream.store import layout


@dataclass(slots=True)
class BufferedEvent:
    """One event that waits, and the record it came in."""

    event: Event
    source: SourceTopic
    offset: int
    value: bytes
    on_disk: bool = False

    @property
    def order(self) -> tuple[Any, ...]:
        """Its place among events of its time."""
        return self.event.order

    def key(self) -> bytes:
        """Give its key in the store."""
        return layout.waiting_key(self.event.user, self.event.ts_ms, self.source, self.offset)


class ReorderBuffer:
    """All waiting events of one partition; `instants` is the heap of their times."""

    def __init__(self) -> None:
        self.instants: list[int] = []
        self._at: dict[int, list[BufferedEvent]] = {}
        self._new: dict[int, list[BufferedEvent]] = {}
        self._gone: list[bytes] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, waiter: BufferedEvent) -> None:
        """Let an event wait."""
        ts_ms = waiter.event.ts_ms
        at = self._at.get(ts_ms)
        if at is None:
            at = self._at[ts_ms] = []
            heapq.heappush(self.instants, ts_ms)
        at.append(waiter)
        if not waiter.on_disk:
            self._new.setdefault(ts_ms, []).append(waiter)
        self._count += 1

    def take(self, ts_ms: int) -> list[BufferedEvent]:
        """Give the events of one time, in order, and stop waiting for them."""
        waiters = self._at.pop(ts_ms)
        self._new.pop(ts_ms, None)
        self._count -= len(waiters)
        self._gone += [waiter.key() for waiter in waiters if waiter.on_disk]
        if len(waiters) > 1:
            waiters.sort(key=_ORDER)
        return waiters

    def write_back(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Give what must be written and deleted so that the disk holds what waits."""
        for waiters in self._new.values():
            for waiter in waiters:
                waiter.on_disk = True
                yield waiter.key(), waiter.value
        self._new.clear()
        for key in self._gone:
            yield key, None
        self._gone = []


_ORDER = attrgetter("order")
