"""Clearing forgotten users off the disk: a deletion alone leaves their bytes in a store's files for a while.

    commit, with a mark ─► purge ─► Kafka has the outbox of then ─► purge of the outbox ─► no mark

The outbox has the user's examples and dead-letters until Kafka has them, so it is purged twice. After a crash anywhere
between, whoever opens the store finds the mark and begins again. The mark names users, so it is emptied, and purged
itself, before it is deleted.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from stream.store import layout
from stream.store.rocksdb import Store

_EVERYBODY: Final = (layout.TIMER, layout.WAITING, layout.OUTBOX)  # what waited and was refused has ids of users, too
_USERS: Final = msgspec.msgpack.Decoder(list[int])


class Erasure:
    """What is to be cleared off one partition's disk.

    Args:
        store: The partition's store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._users: set[int] = set()
        self._upto: int | None = None  # the last record that the outbox had when users were forgotten last

    def resume(self, last: int, waiting: int) -> None:
        """Make up for what a crash has left; to be called when the store has been opened.

        Args:
            last: The number of the last record put into the outbox.
            waiting: How many records the outbox has.
        """
        data = self._store.get(layout.ERASURE_KEY)
        if data is not None:
            users = layout.unpack(_USERS, layout.ERASURE_KEY, data)
            self._users = set(users)
            self._purge(self._users, last, waiting)

    def mark(self, forgotten: Mapping[int, bool]) -> Iterator[tuple[bytes, bytes]]:
        """Return what to write together with the deletions of these users, by whether they were known."""
        self._users |= {user for user, known in forgotten.items() if known}
        if forgotten:
            yield layout.ERASURE_KEY, layout.ENCODER.encode(sorted(self._users))

    def committed(self, forgotten: Mapping[int, bool], last: int, waiting: int) -> None:
        """Clear these users off the disk: the batch that deletes them is written."""
        if forgotten:
            self._purge({user for user, known in forgotten.items() if known}, last, waiting)

    def sent(self, upto: int) -> None:
        """Clear the outbox off the disk once Kafka has all that it had when users were forgotten."""
        if self._upto is not None and upto >= self._upto:
            self._store.purge([layout.OUTBOX])
            self._unmark()

    def _purge(self, users: set[int], last: int, waiting: int) -> None:
        for user in sorted(users):
            self._store.purge(layout.prefixes(user))
        self._store.purge(_EVERYBODY)
        self._upto = last
        if not waiting:
            self._unmark()

    def _unmark(self) -> None:
        self._users, self._upto = set(), None
        self._store.write([(layout.ERASURE_KEY, layout.ENCODER.encode([]))])
        self._store.purge([layout.ERASURE_KEY])
        self._store.write([(layout.ERASURE_KEY, None)])
