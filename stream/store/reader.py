"""Sequences for queries, read from secondaries of the stores on this host while a worker writes them.

A secondary sees everything that the worker has written so far. Events that still wait for the watermark are included,
so that an answer is as fresh as the last event that the worker has read. A store that was deleted and made again in its
folder is opened again: a secondary would go on answering from the deleted files.
"""

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.schema.events import ActionEvent, Event, ForgetEvent, ImpressionEvent, decode_waiting
from stream.schema.ids import NO_KEY, id_key, partition_of
from stream.schema.tokens import TOKEN_DTYPE, Kind
from stream.schema.topics import SourceTopic
from stream.store import layout
from stream.store.layout import BLOCK, UserState
from stream.store.rocksdb import RocksStore, Store, identity, open_secondary, partition_path

_USERS: Final = msgspec.msgpack.Decoder(UserState)


class SequenceReader:
    """Reads users' tokens from the stores under a data directory; safe to share between threads."""

    def __init__(self, data_dir: Path, settings: StreamSettings) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._scratch = Path(tempfile.mkdtemp(prefix="hstu-reader-"))
        self._stores: dict[int, tuple[bytes, RocksStore]] = {}  # with the identity of what was opened
        self._lock = threading.Lock()

    def tokens(self, user: str, last: int) -> NDArray[np.void] | None:
        """Return the user's last tokens in order, as TOKEN_DTYPE [n], or None where the user is unknown.

        Raises:
            StoreError: No store can be read on this host.
        """
        number = partition_of(user.encode(), self._settings.partitions)
        with self._lock:
            store = self._store(number)
            store.catch_up()
            return read_tokens(store, user, last)

    def _store(self, number: int) -> RocksStore:
        path = partition_path(self._data_dir, number)
        found = identity(path)
        opened = self._stores.get(number)
        if opened and opened[0] == found:
            return opened[1]
        if opened:
            del self._stores[number]
            opened[1].close()
        store = open_secondary(path, self._scratch / str(number))
        self._stores[number] = found, store
        return store

    def close(self) -> None:
        """Close the secondaries."""
        for _, store in self._stores.values():
            store.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


def read_tokens(store: Store, user: str, last: int) -> NDArray[np.void] | None:
    """Return a user's last tokens from one store, waiting events included; None where the user is unknown."""
    key = id_key(user)
    data = store.get(layout.user_key(key))
    waiting = _waiting_tokens(store, key)
    if data is None:
        return waiting[-last:] if len(waiting) else None
    state = _USERS.decode(data)
    if state.text != user:
        raise StoreError(f"The users {user!r} and {state.text!r} have one key, {key:016x}; only the latter is kept.")
    start = max(state.first, state.length - last)
    blocks = [
        store.get(layout.block_key(key, block)) or b"" for block in range(start // BLOCK, -(-state.length // BLOCK))
    ]
    joined = np.frombuffer(b"".join(blocks), TOKEN_DTYPE)[start % BLOCK :]
    return np.concatenate((joined, waiting))[-last:]


def _waiting_tokens(store: Store, user: int) -> NDArray[np.void]:
    tokens: list[tuple[int, int, int, int]] = []
    for key, value in store.scan(layout.waiting_prefix(user)):
        source, _ = layout.parse_waiting(key)
        tokens += _tokens_of(decode_waiting(SourceTopic(source), value))
    ordered = sorted(set(tokens), key=lambda token: (token[2], token[3], token[0], token[1]))
    return np.array(ordered, TOKEN_DTYPE)


def _tokens_of(event: Event) -> list[tuple[int, int, int, int]]:
    """Return the (key, action, ts_ms, kind) that the event will become."""
    if isinstance(event, ImpressionEvent):
        return [(item, NO_KEY, event.ts_ms, Kind.IMPRESSION) for item in event.items]
    if isinstance(event, ActionEvent):
        return [(event.item, event.action, event.ts_ms, Kind.ACTION)]
    if isinstance(event, ForgetEvent):
        return []
    return [(event.value, NO_KEY, event.ts_ms, Kind.ATTRIBUTE)]
