"""The requests of one user inside their action window: in memory, by item where they are many, and in the store."""

from collections.abc import Iterator
from typing import Final

from stream.schema.ids import NO_KEY
from stream.store import layout
from stream.store.layout import Request
from stream.store.rocksdb import Store

_SCANNED: Final = 16  # requests; among more of them an item's are looked up


class OpenRequests:
    """The open requests of one user, in the order of their numbers, which is that of time.

    Args:
        user: The user's key.
        store: Has the requests of before.
        oldest: The number of the oldest; 0: there is none.
    """

    def __init__(self, user: int, store: Store, oldest: int) -> None:
        self._user = user
        self._requests: dict[int, Request] = {}
        self._changed: set[int] = set()
        self._closed: list[int] = []  # which the store still has
        self._by_item: dict[int, list[int]] | None = None
        if oldest:
            for key, value in store.scan(layout.requests_prefix(user), layout.request_key(user, oldest)):
                request = layout.unpack(layout.REQUESTS, key, value)
                self._requests[request.number] = request
        self._stored = set(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests.values())

    @property
    def oldest(self) -> Request | None:
        """The one with the smallest number."""
        return next(iter(self._requests.values()), None)

    def add(self, request: Request) -> None:
        """Add one, whose number is larger than all before."""
        self._requests[request.number] = request
        self._changed.add(request.number)
        if self._by_item is not None:
            self._index(self._by_item, request)

    def change(self, request: Request) -> None:
        """Note that one has changed."""
        self._changed.add(request.number)

    def close(self, number: int, due_ms: int) -> Request | None:
        """Remove the one of a number and return it, None if none of this number ends at this time.

        Numbers begin anew where a user was forgotten, so a timer of before may bear a newer request's.
        """
        request = self._requests.get(number)
        if request is None or request.due_ms != due_ms:
            return None
        del self._requests[number]
        self._changed.discard(number)
        if number in self._stored:
            self._stored.remove(number)
            self._closed.append(number)
        if self._by_item is not None:
            for item in request.items:
                of_item = self._by_item[item]
                of_item.remove(number)
                if not of_item:
                    del self._by_item[item]
        return request

    def answered(self, item: int, asked: int) -> Request | None:
        """Return the newest request that shows an item, one that is not final first.

        Args:
            item: The item's key.
            asked: The key of the request that is meant; NO_KEY: any.
        """
        final = None
        for request in self._showing(item):
            if asked in (NO_KEY, request.key):
                if not request.final:
                    return request
                final = final or request
        return final

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Return what to delete (value None) and to write since the last call."""
        for number in self._closed:
            yield layout.request_key(self._user, number), None
        for number in self._changed:
            yield layout.request_key(self._user, number), layout.ENCODER.encode(self._requests[number])
        self._stored |= self._changed
        self._closed.clear()
        self._changed.clear()

    def erasure(self) -> Iterator[tuple[bytes, None]]:
        """Return what to delete so that the store has none of them."""
        for number in (*self._closed, *self._stored):
            yield layout.request_key(self._user, number), None

    def _showing(self, item: int) -> Iterator[Request]:
        """Yield the requests that show an item, the newest first."""
        if self._by_item is None and len(self._requests) > _SCANNED:
            self._by_item = {}
            for request in self._requests.values():
                self._index(self._by_item, request)
        if self._by_item is not None:
            return (self._requests[number] for number in reversed(self._by_item.get(item, [])))
        return (request for request in reversed(self._requests.values()) if item in request.items)

    @staticmethod
    def _index(by_item: dict[int, list[int]], request: Request) -> None:
        for item in request.items:
            by_item.setdefault(item, []).append(request.number)
