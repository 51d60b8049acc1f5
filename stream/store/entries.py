"""A user's tokens as people read them: times, kinds, ids as texts."""

from collections.abc import Callable
from contextlib import suppress

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.schema.dead_letters import RefusedError
from stream.schema.events import decode_waiting
from stream.schema.ids import id_key
from stream.schema.tokens import Kind
from stream.store import layout
from stream.store.rocksdb import Store


class Entry(msgspec.Struct, frozen=True):
    """One token of a user."""

    ts_ms: int
    kind: str
    """impression, action or attribute."""
    item_id: str | None
    action: str | None
    attribute: str | None
    """NAME=VALUE."""


def entries_of(store: Store, user: str, tokens: NDArray[np.void]) -> list[Entry]:
    """Return tokens of a user, TOKEN_DTYPE [n], with the texts that the user's store has for them."""
    text = _texts(store, user)
    return [_entry(token, text) for token in tokens.tolist()]


def _texts(store: Store, user: str) -> Callable[[int], str]:
    """Return what finds the text of an id: in the store, or in an event that still waits."""
    waiting: dict[int, str] = {}
    for key, value in store.scan(layout.waiting_prefix(id_key(user))):
        source, _ = layout.parse_waiting(key)
        with suppress(RefusedError):  # the worker makes it a dead-letter when it opens the store
            waiting |= decode_waiting(source, value).texts

    def text(key: int) -> str:
        stored = store.get(layout.text_key(key))
        return stored.decode() if stored is not None else waiting.get(key, f"{key:016x}")

    return text


def _entry(token: tuple[int, int, int, int], text: Callable[[int], str]) -> Entry:
    key, action, ts_ms, kind = token
    name = Kind(kind).name.lower()
    if kind == Kind.ATTRIBUTE:
        return Entry(ts_ms, name, None, None, text(key))
    return Entry(ts_ms, name, text(key), text(action) if kind == Kind.ACTION else None, None)
