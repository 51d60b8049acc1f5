"""Bytes of a sequence store: the keys of one partition's RocksDB (big-endian numbers) and the values behind them.

    key                                          value
    "v"                                          format version, u32 little-endian
    "m"                                          Meta, msgpack: offsets, clocks, serial, counters, digests
    "d" due i64 | what u8 | user u64 | number u64    empty: a timer, in the order in which they fall due
    "e"                                          keys of users to be cleared off the disk, msgpack (join/erasure.py)
    "i" id u64                                   text of an id (item, action name, attribute value), UTF-8
    "r" user u64 | number u64                    Request, msgpack: inside its action window
    "t" user u64 | block u32                     tokens 64·block … 64·block+63 (tokens.py), fewer in the last
    "u" user u64                                 UserState, msgpack: what is known of the user besides the tokens
    "w" user u64 | ts i64 | source u8 | offset u64   the raw event, waiting for the watermark
    "x" number u64                               Outgoing, msgpack: a record that Kafka has not acknowledged yet

A batch writes what it changed: a user's last block, the requests that were opened or answered, and a state of bounded
size; old blocks are dropped whole. Time finds users by their timers, so a store is opened without reading any user.
"""

import struct
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from stream.errors import StoreError
from stream.schema.tokens import TOKEN
from stream.schema.topics import SourceTopic

_Value = TypeVar("_Value")

REBUILT: Final = (  # what happens after a store's folder has been deleted
    "the worker builds it again from the events that Kafka still holds; where some are gone, trainers stop at the "
    "first new example and say what to do."
)
VERSION: Final = 3
BLOCK: Final = 64  # tokens
TOKEN_BYTES: Final = TOKEN.size

VERSION_KEY: Final = b"v"
META_KEY: Final = b"m"
ERASURE_KEY: Final = b"e"
TIMER, TEXT, REQUEST, TOKENS, USER, WAITING, OUTBOX = b"d", b"i", b"r", b"t", b"u", b"w", b"x"

_ONE = struct.Struct(">cQ")
_BLOCK = struct.Struct(">cQI")
_WAIT = struct.Struct(">cQqBQ")
_REQUEST = struct.Struct(">cQQ")
_TIMER = struct.Struct(">cqBQQ")


Timer = tuple[int, int, int, int]  # due_ms, what (the order within one instant: joiner.py), user, number


def timer_key(due_ms: int, what: int, user: int, number: int) -> bytes:
    """Return the key of a timer; timers are ordered by it."""
    return _TIMER.pack(TIMER, due_ms, what, user, number)


def parse_timer(key: bytes) -> Timer:
    """Return the timer of a key.

    Raises:
        StoreError: It is no such key.
    """
    try:
        _, due_ms, what, user, number = _TIMER.unpack(key)
        return due_ms, what, user, number
    except struct.error as error:
        raise _damaged(key, error) from None


def due_ms(key: bytes) -> int:
    """Return when the timer of a key falls due."""
    return int.from_bytes(key[1:9])


def request_key(user: int, number: int) -> bytes:
    """Return the key of one request of a user."""
    return _REQUEST.pack(REQUEST, user, number)


def requests_prefix(user: int) -> bytes:
    """Return the prefix of the keys of a user's requests."""
    return _ONE.pack(REQUEST, user)


def text_key(key: int) -> bytes:
    """Return the key of an id's text."""
    return _ONE.pack(TEXT, key)


def user_key(user: int) -> bytes:
    """Return the key of a user's state."""
    return _ONE.pack(USER, user)


def block_key(user: int, block: int) -> bytes:
    """Return the key of one block of a user's tokens."""
    return _BLOCK.pack(TOKENS, user, block)


def waiting_key(user: int, ts_ms: int, source: int, offset: int) -> bytes:
    """Return the key of a waiting event."""
    return _WAIT.pack(WAITING, user, ts_ms, source, offset)


def waiting_prefix(user: int) -> bytes:
    """Return the prefix of the keys of one user's waiting events."""
    return _ONE.pack(WAITING, user)


def tokens_prefix(user: int) -> bytes:
    """Return the prefix of the keys of a user's blocks of tokens."""
    return _ONE.pack(TOKENS, user)


def with_offset(key: bytes, offset: int) -> bytes:
    """Return the key of a waiting event under another offset."""
    letter, user, ts_ms, source, _ = _WAIT.unpack(key)
    return _WAIT.pack(letter, user, ts_ms, source, offset)


def prefixes(user: int) -> tuple[bytes, ...]:
    """Return the prefixes of all keys of one user, but of timers and waiting events."""
    return tuple(_ONE.pack(kind, user) for kind in (REQUEST, TOKENS, USER))


def parse_waiting(key: bytes) -> tuple[SourceTopic, int]:
    """Return source and offset of a waiting event's key.

    Raises:
        StoreError: It is no such key.
    """
    try:
        _, _, _, source, offset = _WAIT.unpack(key)
        return SourceTopic(source), offset
    except (struct.error, ValueError) as error:
        raise _damaged(key, error) from None


def waiting_ms(key: bytes) -> int:
    """Return the time of the waiting event of a key."""
    return int.from_bytes(key[9:17])


def outbox_key(number: int) -> bytes:
    """Return the key of a record for Kafka."""
    return _ONE.pack(OUTBOX, number)


def number_of(key: bytes) -> int:
    """Return the number in a key of one letter and one u64.

    Raises:
        StoreError: It is no such key.
    """
    try:
        return int(_ONE.unpack(key)[1])
    except struct.error as error:
        raise _damaged(key, error) from None


def unpack(decoder: "msgspec.msgpack.Decoder[_Value]", key: bytes, value: bytes) -> _Value:
    """Return what a value in msgpack says.

    Raises:
        StoreError: It is not what is written behind such a key.
    """
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(key, error) from None


def _damaged(key: bytes, error: Exception) -> StoreError:
    return StoreError(
        f"A sequence store has {key.hex()} as a key, which, or whose value, cannot be read ({error}): the store is "
        "damaged, or another program has written to it. Restore it from a backup, or delete this partition's folder: "
        f"{REBUILT}"
    )


class Target(msgspec.Struct, array_like=True, gc=False):
    """A token that has become a target: its position, the last position before its request (-1: none), its label."""

    position: int
    query: int
    request: int
    request_ms: int
    labels: list[int]


class Request(msgspec.Struct, array_like=True, gc=False):
    """An impression inside its action window: from `position` on its items stand one after the other.

    `labels` has the keys of the actions on the item at a place of the slate, where there are any. `final`: all items
    have been acted on, and the targets have left to be gathered.
    """

    number: int
    key: int
    ts_ms: int
    due_ms: int
    query: int
    position: int
    items: list[int]
    labels: dict[int, list[int]] = {}
    final: bool = False

    def targets(self) -> list[Target]:
        """Return its items as targets."""
        places = range(len(self.items))
        return [
            Target(self.position + place, self.query, self.number, self.ts_ms, self.labels.get(place, []))
            for place in places
        ]


class UserState(msgspec.Struct, array_like=True):
    """What is known of a user besides tokens and open requests; its size is bounded.

    `oldest` is the number of the oldest open request, 0 where none is. `attributes` are in the order in which they
    changed last. `leave_ms` is when the gathered targets leave.
    """

    text: str
    length: int = 0
    first: int = 0
    texted: int = 0
    requests: int = 0
    oldest: int = 0
    attributes: dict[int, int] = {}
    gathered: list[Target] = []
    leave_ms: int = 0


class Outgoing(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record for Kafka: its number in the outbox, topic without prefix, key, value, headers."""

    number: int
    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]] = []


class Counters(msgspec.Struct, array_like=True):
    """Counts of what one partition has done since its store was made."""

    events: list[int]
    tokens: int = 0
    examples: int = 0
    targets: int = 0
    late_labels: int = 0
    duplicates: int = 0
    misrouted: int = 0
    dead_letters: dict[str, int] = {}
    dropped_requests: int = 0
    dropped_attributes: int = 0


class LogState(msgspec.Struct, array_like=True):
    """Offset and digest of the last record read of one source, and whether what moved its clock last was replayed."""

    offset: int | None = None
    digest: bytes = b""
    replayed: bool = False


class Meta(msgspec.Struct, array_like=True):
    """How far one partition has come; `parent` and `digest` are explained in stream/example.py and join/joiner.py."""

    partitions: int
    offsets: list[int]
    clock_ms: list[int]
    watermark_ms: int
    logs: list[LogState]
    serial: int
    parent: bytes
    outgoing: int
    digest: bytes
    counters: Counters
    settings: dict[str, bool | int | float]
    """Those that decided (StreamSettings.deciding), by name."""
    partition: int | None = None
    """Which one; stores learn it by their next batch."""


def is_passed(meta: Meta | None, read: Sequence[int]) -> bool:
    """Return whether somebody who has read so much of the three sources has read all that a store has, and more."""
    have = meta.offsets if meta else [0] * len(read)  # one that was opened, and whose partition had moved before events
    return list(read) != have and all(their >= our for their, our in zip(read, have, strict=True))


USERS: Final = msgspec.msgpack.Decoder(UserState)
REQUESTS: Final = msgspec.msgpack.Decoder(Request)
ENCODER: Final = msgspec.msgpack.Encoder()
OUTGOING: Final = msgspec.msgpack.Decoder(Outgoing)
METAS: Final = msgspec.msgpack.Decoder(Meta)
