"""One user's stored sequence as operators read it: with titles."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from stream.errors import HstuError
from stream.operations.user_id import encode_user
from stream.schema.ids import partition_of
from stream.store.entries import Entry


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
    reader: SequenceSource, partitions: int, user: str, last: int, title: Callable[[str], str | None]
) -> list[TitledEntry]:
    """Return the user's last tokens, oldest first, those that still wait for the watermark included.

    Args:
        reader: Of the tokens.
        partitions: Of each topic.
        user: The user's id.
        last: How many tokens at most.
        title: Returns an item's title, None where it is not known.

    Raises:
        StoreError: The user's store is not on this host, or cannot be read, nor does the worker that has it answer.
        HstuError: The store knows no such user, or the id is not UTF-8.
    """
    number = partition_of(encode_user(user), partitions)
    entries = reader.entries(user, last)
    if entries is None:
        raise HstuError(f"Partition {number}, where user {user!r} would be, knows no such user.")
    titles = (None if entry.item_id is None else title(entry.item_id) for entry in entries)
    return [
        TitledEntry(**msgspec.structs.asdict(entry), title=found) for entry, found in zip(entries, titles, strict=True)
    ]
