"""The stores of some partitions divided into those of more: each user goes, whole, to one of the new ones.

    a user's state, open requests and tokens  │ to the partition that murmur2 of the id gives among more
    a user's timers and waiting events        │ the same
    texts                                     │ to each partition that has a token with them
    clocks, watermark                         │ the least of all partitions, to each
    digest of tokens, counters                │ the sum of all partitions, to partition 0
    serial, parent, outbox                    │ to none: `examples` begins anew

So nothing is joined again. A waiting event has its offset as a part of its key, and offsets begin anew: it gets one
beyond all that Kafka gives out. What was sent of a user's texts was sent to another topic, so it is sent once more.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from stream.errors import StoreError
from stream.example import NO_PARENT
from stream.schema.dead_letters import RefusedError
from stream.schema.events import decode_waiting
from stream.schema.ids import partition_of
from stream.schema.tokens import TOKEN_DTYPE, Kind
from stream.store import layout
from stream.store.layout import Counters, LogState, Meta, UserState
from stream.store.rocksdb import Store

_READ: Final = 512  # keys at once
_BATCH_BYTES: Final = 4 << 20  # of one write to a new store
_FLUSHED_BYTES: Final = 256 << 20  # of all of them, after which they go to disk: each keeps up to 64 MiB in memory
_TEXTS: Final = 200_000  # known to have been written to a new store; what is forgotten here is written again
_BEYOND: Final = 1 << 63  # no offset of Kafka's
_DIGEST: Final = 2**128


@dataclass(slots=True)
class Census:
    """What stores hold."""

    users: int = 0
    waiting: int = 0


def count(number: int, store: Store, partitions: int) -> Census:
    """Count what a partition's store holds.

    Raises:
        StoreError: A user lies where murmur2 would not have put them.
    """
    found = Census()
    for _, state in users_of(store):
        found.users += 1
        home = partition_of(state.text.encode(), partitions)
        if home != number:
            raise StoreError(
                f"User {state.text!r} lies in partition {number}, and Kafka's default partitioner (murmur2 of the key) "
                f"puts them in {home}: with another partitioner nobody can tell where their next events will go. Let "
                "producers use murmur2, and copy the records by key instead (docs/recovery.md, More partitions)."
            )
    found.waiting = sum(1 for _ in each(store, layout.WAITING))
    return found


def users_of(store: Store) -> Iterator[tuple[int, UserState]]:
    """Yield the key and the state of each user of a store."""
    for key, data in each(store, layout.USER):
        yield layout.number_of(key), layout.unpack(layout.USERS, key, data)


def each(store: Store, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys with a prefix and their values, a few of them in memory at once."""
    start = b""
    while found := list(store.scan(prefix, start, _READ)):
        yield from found
        start = found[-1][0] + b"\0"


class Target(Protocol):
    """The part of a store that a division needs of a new one."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key."""

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], /) -> None:
        """Apply (key, value) pairs at once."""


class Division:
    """Divides stores, one after the other.

    Args:
        new: The new stores, by partition; empty.
        flush: Writes what they have in memory to disk.
    """

    def __init__(self, new: Sequence[Target], flush: Callable[[], None] = lambda: None) -> None:
        self._new = [_NewStore(store) for store in new]
        self._flush = flush
        self._bytes = 0

    def take(self, old: Store, most: int | None = None) -> int:
        """Copy what a store has of users; return how many they are.

        Args:
            old: A store; nothing in it is changed.
            most: Only this many users, and nothing that waits or falls due.

        Raises:
            StoreError: It is damaged, or a user's key is that of a user of another store.
        """
        users = 0
        for key, state in users_of(old):
            if users == most:
                break
            self._take_user(old, key, state)
            users += 1
        if most is None:
            self._take_timers(old)
            self._take_waiting(old)
        for new in self._new:
            new.write()
        return users

    def _take_user(self, old: Store, key: int, state: UserState) -> None:
        new = self._home(state.text)
        new.refuse_other(key, state.text)
        state.texted = 0
        blocks = [value for _, value in self._copied(new, old.scan(layout.tokens_prefix(key)))]
        for _ in self._copied(new, old.scan(layout.requests_prefix(key))):
            pass
        self._put(new, layout.user_key(key), layout.ENCODER.encode(state))
        for name in new.unknown_texts(b"".join(blocks)):
            if (text := old.get(layout.text_key(name))) is not None:
                self._put(new, layout.text_key(name), text)

    def _copied(self, new: "_NewStore", pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for key, value in pairs:
            self._put(new, key, value)
            yield key, value

    def _take_timers(self, old: Store) -> None:
        for key, _ in each(old, layout.TIMER):
            _, _, user, _ = layout.parse_timer(key)
            user_key = layout.user_key(user)
            if (data := old.get(user_key)) is not None:  # else the user was forgotten
                self._put(self._home(layout.unpack(layout.USERS, user_key, data).text), key, b"")

    def _take_waiting(self, old: Store) -> None:
        for key, value in each(old, layout.WAITING):
            source, _ = layout.parse_waiting(key)
            try:
                new = self._home(decode_waiting(source, value).user_text)
            except RefusedError:
                new = self._new[0]  # any: it becomes a dead-letter when its store is opened
            self._put(new, layout.with_offset(key, _BEYOND + new.waiting), value)
            new.waiting += 1

    def _home(self, user: str) -> "_NewStore":
        return self._new[partition_of(user.encode(), len(self._new))]

    def _put(self, new: "_NewStore", key: bytes, value: bytes) -> None:
        new.put(key, value)
        self._bytes += len(key) + len(value)
        if self._bytes > _FLUSHED_BYTES:
            self._flush()
            self._bytes = 0


class _NewStore:
    """One new store, and what is to be written to it."""

    def __init__(self, store: Target) -> None:
        self.waiting = 0
        self._store = store
        self._changes: list[tuple[bytes, bytes | None]] = []
        self._bytes = 0
        self._texts: set[int] = set()

    def put(self, key: bytes, value: bytes) -> None:
        self._changes.append((key, value))
        self._bytes += len(key) + len(value)
        if self._bytes > _BATCH_BYTES:
            self.write()

    def write(self) -> None:
        self._store.write(self._changes)
        self._changes, self._bytes = [], 0

    def refuse_other(self, key: int, text: str) -> None:
        """Refuse a user whose key is that of another user, whom another store has; all that is earlier was written."""
        if (data := self._store.get(user_key := layout.user_key(key))) is not None:
            other = layout.unpack(layout.USERS, user_key, data).text
            raise StoreError(
                f"The users {other!r} and {text!r} have one key, {key:016x}, and would come into one partition; forget "
                f"one of them first, by hstu forget {text}."
            )

    def unknown_texts(self, tokens: bytes) -> list[int]:
        """Return the ids in tokens whose texts may not have been written yet."""
        found = np.frombuffer(tokens, TOKEN_DTYPE)
        actions = found["action"][found["kind"] == Kind.ACTION]
        unknown = set(np.concatenate((found["key"], actions)).tolist()) - self._texts
        if len(self._texts) > _TEXTS:
            self._texts.clear()
        self._texts |= unknown
        return sorted(unknown)


def new_metas(old: Sequence[Meta], logs: Sequence[list[LogState]]) -> list[Meta]:
    """Return how far the new partitions have come, by partition.

    Args:
        old: How far those have come that were divided.
        logs: The record that each new source begins with, by partition.
    """
    sources = range(len(old[0].clock_ms))
    return [
        Meta(
            partitions=len(logs),
            offsets=[1 if state.offset is None else state.offset + 1 for state in states],
            clock_ms=[min(meta.clock_ms[source] for meta in old) for source in sources],
            watermark_ms=min(meta.watermark_ms for meta in old),
            logs=states,
            serial=0,
            parent=NO_PARENT,
            outgoing=0,
            digest=(bytes(16) if number else _digests(old)),
            counters=Counters([0 for _ in sources]) if number else _sum([meta.counters for meta in old]),
            settings=old[0].settings,
            partition=number,
        )
        for number, states in enumerate(logs)
    ]


def _digests(metas: Sequence[Meta]) -> bytes:
    return (sum(int.from_bytes(meta.digest) for meta in metas) % _DIGEST).to_bytes(16)


def _sum(counters: Sequence[Counters]) -> Counters:
    letters: Counter[str] = Counter()
    total = Counters([sum(events) for events in zip(*[each.events for each in counters], strict=True)])
    for name in Counters.__struct_fields__:
        if name not in ("events", "dead_letters"):
            setattr(total, name, sum(getattr(each, name) for each in counters))
    for one in counters:
        letters.update(one.dead_letters)
    total.dead_letters = dict(letters)
    return total
