"""One user's stored sequence as operators read it: times, kinds, ids as texts."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from stream.config import StreamSettings
from stream.errors import HstuError
from stream.operations.user_id import encode_user
from stream.schema.dead_letters import RefusedError
from stream.schema.events import decode_waiting
from stream.schema.ids import id_key, partition_of
from stream.schema.tokens import Kind
from stream.store import layout
from stream.store.reader import read_tokens
from stream.store.rocksdb import Store, open_secondary, partition_path


@dataclass(frozen=True, slots=True)
class Entry:
    """One token of a user."""

    ts_ms: int
    kind: str
    """impression, action or attribute."""
    item_id: str | None
    title: str | None
    action: str | None
    attribute: str | None
    """NAME=VALUE."""


def read_sequence(
    data_dir: Path, settings: StreamSettings, user: str, last: int, title: Callable[[str], str | None]
) -> list[Entry]:
    """Return the user's last tokens, oldest first, those that still wait for the watermark included.

    Args:
        data_dir: Of this host's stores.
        settings: Say in which partition the user is.
        user: The user's id.
        last: How many tokens at most.
        title: Returns an item's title, None where it is not known.

    Raises:
        StoreError: The user's store is not on this host, or cannot be read.
        HstuError: The store knows no such user, or the id is not UTF-8.
    """
    number = partition_of(encode_user(user), settings.partitions)
    with TemporaryDirectory(prefix="hstu-sequence-") as scratch:
        store = open_secondary(partition_path(data_dir, number), Path(scratch) / "log")
        try:
            tokens = read_tokens(store, user, last)
            if tokens is None:
                raise HstuError(f"Partition {number}, where user {user!r} would be, knows no such user.")
            text = _texts(store, user)
            return [_entry(token, text, title) for token in tokens.tolist()]
        finally:
            store.close()


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


def _entry(token: tuple[int, int, int, int], text: Callable[[int], str], title: Callable[[str], str | None]) -> Entry:
    key, action, ts_ms, kind = token
    name = Kind(kind).name.lower()
    if kind == Kind.ATTRIBUTE:
        return Entry(ts_ms, name, None, None, None, text(key))
    item = text(key)
    return Entry(ts_ms, name, item, title(item), text(action) if kind == Kind.ACTION else None, None)
