"""Bytes of a sequence store: the keys of one partition's RocksDB (big-endian numbers) and the values behind them.

    key                                          value
    "v"                                          format version, u32 little-endian
    "m"                                          Meta, msgpack: offsets, clocks, serial, counters, digests
    "a" user u64                                 empty: the user has open requests or gathered targets
    "i" id u64                                   text of an id (item, action name, attribute value), UTF-8
    "t" user u64 | block u32                     tokens 64·block … 64·block+63 (tokens.py), fewer in the last
    "u" user u64                                 UserState, msgpack: what is known of the user besides the tokens
    "w" user u64 | ts i64 | source u8 | offset u64   the raw event, waiting for the watermark
    "x" number u64                               Outgoing, msgpack: a record that Kafka has not acknowledged yet

Appending writes the last block only, so a long history is never rewritten; old blocks are dropped whole.
"""

import struct
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
VERSION: Final = 2
BLOCK: Final = 64  # tokens
TOKEN_BYTES: Final = TOKEN.size

VERSION_KEY: Final = b"v"
META_KEY: Final = b"m"
ACTIVE, TEXT, TOKENS, USER, WAITING, OUTBOX = b"a", b"i", b"t", b"u", b"w", b"x"

_ONE = struct.Struct(">cQ")
_BLOCK = struct.Struct(">cQI")
_WAIT = struct.Struct(">cQqBQ")


def active_key(user: int) -> bytes:
    """Return the key that says that a user has something open."""
    return _ONE.pack(ACTIVE, user)


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


def prefixes(user: int) -> tuple[bytes, ...]:
    """Return the prefixes of all keys of one user."""
    return tuple(_ONE.pack(kind, user) for kind in (ACTIVE, TOKENS, USER, WAITING))


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


class Target(msgspec.Struct, array_like=True):
    """A token that has become a target: its position, the last position before its request (-1: none), its label."""

    position: int
    query: int
    request: int
    request_ms: int
    labels: list[int]


class Request(msgspec.Struct, array_like=True):
    """An impression inside its action window; `final` once its targets have left to be gathered."""

    number: int
    key: int
    ts_ms: int
    items: list[int]
    targets: list[Target]
    final: bool = False


class UserState(msgspec.Struct, array_like=True):
    """What is known of a user besides the tokens."""

    text: str
    length: int = 0
    first: int = 0
    texted: int = 0
    requests: int = 0
    attributes: dict[int, int] = {}
    open: list[Request] = []
    gathered: list[Target] = []
    gathered_ms: int = 0

    @property
    def active(self) -> bool:
        """Whether time alone can change this user."""
        return bool(self.open or self.gathered)


class Outgoing(msgspec.Struct, array_like=True, frozen=True):
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
    settings: dict[str, bool | int | float] = {}
    """Those that decided (StreamSettings.deciding), by name; empty in a store of before they were kept."""


USERS: Final = msgspec.msgpack.Decoder(UserState)
OUTGOING: Final = msgspec.msgpack.Decoder(Outgoing)
METAS: Final = msgspec.msgpack.Decoder(Meta)
