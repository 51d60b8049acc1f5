"""One user's stored sequence as operators read it: with titles."""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from stream.errors import HstuError
from stream.operations.tables import when
from stream.operations.user_id import encode_user
from stream.schema.ids import partition_of
from stream.store.entries import Entry

_MOST: Final = 10_000  # tokens, which a worker of another host answers at most


class SequenceSource(Protocol):
    """Reads users' tokens, here or by the workers that have them."""

    def entries(self, user: str, last: int) -> list[Entry] | None:
        """Return the user's last tokens in order with their texts, or None where the user is unknown."""

    def close(self) -> None:
        """Close what is read."""


class TitledEntry(Entry, frozen=True):
    """One token of a user, with its item's title."""

    title: str | None


def read_sequence(
    reader: SequenceSource,
    partitions: int,
    user: str,
    last: int,
    title: Callable[[str], str | None],
    as_of_ms: int | None = None,
) -> list[TitledEntry]:
    """Return the user's last tokens, oldest first, those that still wait for the watermark included.

    Args:
        reader: Of the tokens.
        partitions: Of each topic.
        user: The user's id.
        last: How many tokens at most.
        title: Returns an item's title, None where it is not known.
        as_of_ms: The last event time that is seen; None: all.

    Raises:
        StoreError: The user's store is not on this host, or cannot be read, nor does the worker that has it answer.
        HstuError: The store knows no such user, or none of then, or the id is not UTF-8.
    """
    number = partition_of(encode_user(user), partitions)
    entries = reader.entries(user, last if as_of_ms is None else _MOST)
    if entries is None:
        raise HstuError(f"Partition {number}, where user {user!r} would be, knows no such user.")
    if as_of_ms is not None:
        entries = _until(entries, as_of_ms, user, last)
    titles = (None if entry.item_id is None else title(entry.item_id) for entry in entries)
    return [
        TitledEntry(**msgspec.structs.asdict(entry), title=found) for entry, found in zip(entries, titles, strict=True)
    ]


def _until(entries: list[Entry], ts_ms: int, user: str, last: int) -> list[Entry]:
    """Return the last of a user's entries that are no later than a time."""
    found = [entry for entry in entries if entry.ts_ms <= ts_ms]
    if len(found) < last and len(entries) == _MOST:
        raise HstuError(
            f"User {user!r} has had so many events since that only {len(found):,} of then are among the newest "
            f"{_MOST:,}, which are all that is read: ask for fewer by --last, or as of a later time."
        )
    if not found:
        first = when(entries[0].ts_ms)
        raise HstuError(f"User {user!r} had no events by then: the first token that is kept is of {first} UTC.")
    return found[-last:]
