"""The event-time timers of one partition: what falls due when. All are in the store, only the next ones in memory.

    in memory (a heap)       │ `_known` │       in the store alone

A timer that is set before `_known` goes into the heap, another one only into the store, with the batch. Once the heap
is empty the next ones are read. So a partition with a million open requests is opened by reading the first timers, and
takes no more memory than they do.
"""

import heapq
from collections.abc import Iterator
from typing import Final

from stream.schema.tokens import END_OF_TIME_MS
from stream.store import layout
from stream.store.layout import Timer
from stream.store.rocksdb import Store

_READ: Final = 8192  # timers at once; about 1 MB
_MOST: Final = 4 * _READ  # in memory between two batches
_ALL: Final = layout.TIMER + b"\xff" * 32  # behind every timer's key


class Timers:
    """The timers of one partition.

    A timer whose purpose is gone may still come out: whoever set it checks.

    Args:
        store: Has the timers of before.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heap: list[bytes] = []  # keys of all timers before `_known`
        self._known = layout.TIMER
        self._unwritten: set[bytes] = set()
        self._deleted: set[bytes] = set()  # those that the store has
        self.next_ms = END_OF_TIME_MS
        """When the next one falls due, END_OF_TIME_MS if none will."""
        self._look_ahead()

    def __len__(self) -> int:
        """Return how many are in memory."""
        return len(self._heap)

    def set(self, due_ms: int, what: int, user: int, number: int) -> None:
        """Set a timer."""
        key = layout.timer_key(due_ms, what, user, number)
        self._unwritten.add(key)
        if key < self._known:
            heapq.heappush(self._heap, key)
            if due_ms < self.next_ms:
                self.next_ms = due_ms

    def cancel(self, due_ms: int, what: int, user: int, number: int) -> None:
        """Delete a timer that is set; it may still come out of `pop`."""
        self._delete(layout.timer_key(due_ms, what, user, number))

    def pop(self) -> Timer:
        """Remove the next timer and return it."""
        key = heapq.heappop(self._heap)
        self._delete(key)
        self._look_ahead()
        return layout.parse_timer(key)

    def write_back(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Return what to delete (value None) and to write, in this order, so that the store has every timer."""
        for key in self._deleted:
            yield key, None
        for key in self._unwritten:
            yield key, b""
        self._deleted.clear()
        self._unwritten.clear()
        if len(self._heap) > _MOST:
            self._heap.sort()
            self._known = self._heap[_READ]
            del self._heap[_READ:]

    def _delete(self, key: bytes) -> None:
        if key in self._unwritten:
            self._unwritten.remove(key)
        else:
            self._deleted.add(key)

    def _look_ahead(self) -> None:
        while not self._heap and self._known < _ALL:
            self._read()
        self.next_ms = layout.due_ms(self._heap[0]) if self._heap else END_OF_TIME_MS

    def _read(self) -> None:
        stored = [key for key, _ in self._store.scan(layout.TIMER, self._known, _READ)]
        known = stored[-1] + b"\0" if len(stored) == _READ else _ALL
        self._heap = [key for key in stored if key not in self._deleted]
        self._heap += [key for key in self._unwritten if self._known <= key < known]
        self._heap.sort()
        self._known = known
