"""Sequences for queries, read from secondaries of the stores on this host while a worker writes them.

A secondary sees everything that the worker has written so far. Events that still wait for the watermark are included,
so that an answer is as fresh as the last event that the worker has read; of very many only the newest. A store that was
deleted and made again in its folder is opened again: a secondary would go on answering from the deleted files. One that
no worker of this host has open, and that the group of workers has passed, is not answered from: it was left.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.schema.dead_letters import RefusedError
from stream.schema.events import ActionEvent, AttributeEvent, Event, ForgetEvent, ImpressionEvent, decode_waiting
from stream.schema.ids import NO_KEY, id_key, partition_of
from stream.schema.tokens import TOKEN_DTYPE, Kind
from stream.schema.topics import SourceTopic
from stream.store import layout
from stream.store.entries import Entry, entries_of
from stream.store.layout import BLOCK, UserState
from stream.store.refusals import refuse_other_count, refuse_other_partition
from stream.store.rocksdb import RocksStore, Store, identity, open_secondary, partition_path
from stream.store.scratch import make_scratch, remove_scratch
from stream.store.standby import is_behind, is_open_elsewhere, left_behind, refuse_behind

WAITING_TOKENS: Final = 4096
"""Tokens of one user's waiting events that are read at most: the newest, so that a bot slows no one else's queries."""
_WAITING_BYTES: Final = 8 << 20  # and of their JSON
_SPARE: Final = 4  # events read for each token wanted: two events may become one token
_WAITING_RECORDS: Final = 4 * WAITING_TOKENS  # and of records, repeats of one event among them


class SequenceReader:
    """Reads users' tokens from the stores under a data directory; safe to share between threads.

    Args:
        data_dir: Holds the stores.
        settings: Shared by all workers.
        read: Returns how far the group of workers has read a partition of each source; None where nobody is asked.
    """

    problem = ""  # nothing but the stores of this host is asked

    def __init__(
        self, data_dir: Path, settings: StreamSettings, read: Callable[[int], Sequence[int]] | None = None
    ) -> None:
        self._data_dir, self._settings, self._read = data_dir, settings, read
        self._scratch = make_scratch()
        self._stores: dict[int, tuple[bytes, RocksStore]] = {}  # with the identity of what was opened
        self._locks = [threading.Lock() for _ in range(settings.partitions)]

    def tokens(self, user: str, last: int) -> NDArray[np.void] | None:
        """Return the user's last tokens in order, as TOKEN_DTYPE [n], or None where the user is unknown.

        The bytes are read under the partition's lock, and decoded without it.

        Raises:
            StoreError: No store can be read on this host, or it is behind one of another host.
        """
        with self._opened(user) as store:
            stored = _read(store, user, last)
        return stored.tokens(last)

    def entries(self, user: str, last: int) -> list[Entry] | None:
        """Return the user's last tokens in order with their texts, or None where the user is unknown.

        Raises:
            StoreError: No store can be read on this host, or it is behind one of another host.
        """
        with self._opened(user) as store:
            tokens = read_tokens(store, user, last)
            return None if tokens is None else entries_of(store, user, tokens)

    def first_users(self, most: int) -> list[str]:
        """Return the users of this host's stores with the smallest keys, in their order; those that only wait are not.

        Stores that are behind those of other hosts are passed over.

        Raises:
            StoreError: A store that is here cannot be read.
        """
        found: list[tuple[bytes, str]] = []
        for number, lock in enumerate(self._locks):
            path = partition_path(self._data_dir, number)
            if path.exists() and not is_behind(path):
                read = self._read(number) if self._read else ()
                with lock:
                    store = self._store(number)
                    store.catch_up()
                    left = any(read) and _is_passed(store, path, read)
                    pairs = [] if left else list(store.scan(layout.USER, most=most))
                found += [(key, layout.unpack(layout.USERS, key, data).text) for key, data in pairs]
        return [text for _, text in sorted(found)[:most]]

    @contextmanager
    def _opened(self, user: str) -> Iterator[RocksStore]:
        """Hold the lock of the user's partition, and yield its store as it is now."""
        number = partition_of(user.encode(), self._settings.partitions)
        path = partition_path(self._data_dir, number)
        read = self._read(number) if self._read else ()
        with self._locks[number]:
            refuse_behind(path)
            store = self._store(number)
            store.catch_up()
            if any(read) and _is_passed(store, path, read):
                raise left_behind(path)
            yield store

    def _store(self, number: int) -> RocksStore:
        path = partition_path(self._data_dir, number)
        found = identity(path)
        opened = self._stores.get(number)
        if opened and opened[0] == found:
            return opened[1]
        if opened:
            del self._stores[number]
            opened[1].close()
        store = open_secondary(path, self._scratch.path / str(number))
        try:
            refuse_other(store, number, path, self._settings.partitions)
        except StoreError:
            store.close()
            raise
        self._stores[number] = found, store
        return store

    def close(self) -> None:
        """Close the secondaries."""
        for number, (_, store) in list(self._stores.items()):
            with self._locks[number]:
                store.close()
        remove_scratch(self._scratch)


def refuse_other(store: Store, number: int, path: Path, partitions: int) -> None:
    """Check that a store is of a partition, and was made for this number of them.

    Raises:
        StoreError: It is not.
    """
    if data := store.get(layout.META_KEY):
        meta = layout.unpack(layout.METAS, layout.META_KEY, data)
        refuse_other_partition(meta, number, path)
        refuse_other_count(meta, number, partitions)


def _is_passed(store: Store, path: Path, read: Sequence[int]) -> bool:
    """Return whether workers have read more than a store that none of this host has open."""
    data = store.get(layout.META_KEY)
    meta = layout.unpack(layout.METAS, layout.META_KEY, data) if data else None
    return layout.is_passed(meta, read) and not is_open_elsewhere(path)


def read_tokens(store: Store, user: str, last: int) -> NDArray[np.void] | None:
    """Return a user's last tokens from one store, waiting events included; None where the user is unknown."""
    return _read(store, user, last).tokens(last)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The bytes behind a user's last tokens; `state` is None where nothing has been joined yet."""

    state: UserState | None
    joined: bytes
    waiting: list[tuple[SourceTopic, bytes]]
    """Raw events, the newest first, each once."""
    all_waiting: bool
    """Whether these are all that wait."""

    def tokens(self, last: int) -> NDArray[np.void] | None:
        waiting, reaches_joined = self._waiting_tokens(last)
        if self.state is None or not reaches_joined:
            return waiting[-last:] if len(waiting) else None
        return np.concatenate((np.frombuffer(self.joined, TOKEN_DTYPE), waiting))[-last:]

    def _waiting_tokens(self, last: int) -> tuple[NDArray[np.void], bool]:
        """Return the tokens of what waits, and whether those that are joined come right before them.

        They do not where a record that waits forgets them, nor where more waits than was read: such a record may be
        among the rest.
        """
        tokens: set[tuple[int, int, int, int, int, int]] = set()
        reaches_joined = self.all_waiting
        for source, value in self.waiting:
            if len(tokens) >= min(last, WAITING_TOKENS):
                reaches_joined = False
                break
            with suppress(RefusedError):  # the worker makes it a dead-letter when it opens the store
                event = decode_waiting(source, value)
                if isinstance(event, ForgetEvent):  # the last of its instant
                    tokens = {token for token in tokens if token[0] > event.ts_ms}
                    reaches_joined = False
                    break
                tokens.update(_tokens_of(event))
        ordered = [(key, action, ts_ms, kind) for ts_ms, kind, _, _, key, action in sorted(tokens)]
        return np.array(ordered, TOKEN_DTYPE), reaches_joined


def _read(store: Store, user: str, last: int) -> _Stored:
    """Read what `last` tokens of a user may need."""
    key = id_key(user)
    user_key = layout.user_key(key)
    data = store.get(user_key)
    waiting, all_waiting = _waiting_events(store, key, min(_SPARE * last, WAITING_TOKENS))
    if data is None:
        return _Stored(None, b"", waiting, all_waiting)
    state = layout.unpack(layout.USERS, user_key, data)
    if state.text != user:
        raise StoreError(f"The users {user!r} and {state.text!r} have one key, {key:016x}; only the latter is kept.")
    start = max(state.first, state.length - last)
    blocks = [
        store.get(layout.block_key(key, block)) or b"" for block in range(start // BLOCK, -(-state.length // BLOCK))
    ]
    joined = b"".join(blocks)[start % BLOCK * layout.TOKEN_BYTES :]
    return _Stored(state, joined, waiting, all_waiting)


def _waiting_events(store: Store, user: int, most: int) -> tuple[list[tuple[SourceTopic, bytes]], bool]:
    """Return the newest events of a user that wait, each once, and whether that is all of them."""
    events: dict[tuple[SourceTopic, bytes], None] = {}
    size = 0
    for records, (key, value) in enumerate(store.scan_back(layout.waiting_prefix(user))):
        if len(events) >= most or size > _WAITING_BYTES or records >= _WAITING_RECORDS:
            return list(events), False
        source, _ = layout.parse_waiting(key)
        if (source, value) not in events:
            events[source, value] = None
            size += len(value)
    return list(events), True


def _tokens_of(event: Event) -> list[tuple[int, int, int, int, int, int]]:
    """Return the (ts_ms, kind, request, place, key, action) of each token that the event will become."""
    if isinstance(event, ImpressionEvent):
        shown = enumerate(event.items)
        return [(event.ts_ms, Kind.IMPRESSION, event.request, place, item, NO_KEY) for place, item in shown]
    if isinstance(event, ActionEvent):
        return [(event.ts_ms, Kind.ACTION, 0, 0, event.item, event.action)]
    assert isinstance(event, AttributeEvent)
    return [(event.ts_ms, Kind.ATTRIBUTE, 0, 0, event.value, NO_KEY)]
