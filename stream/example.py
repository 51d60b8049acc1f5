"""Examples: one user's recent tokens and which of them are targets; the bytes of a message on topic `examples`.

n = tokens, t = targets, l = labels of all targets, x = texts. Little-endian, every column starts at a multiple of 8:

    bytes          field
    0   4s         magic "HSTE"
    4   u16        version, 2
    6   u16        type: 1 example, 2 heartbeat

    example                                              heartbeat
    8   u32        partition                             8   u32   partition
    12  u32        n                                     12  u32   0
    16  u32        t                                     16  i64   watermark: nothing final before it will follow
    20  u32        l                                     24  u64   tokens appended in this partition so far
    24  u32        x                                     32  16s   digest of these tokens (joiner.py)
    28  u32        bytes of all texts
    32  u64        serial, 1, 2, 3, … in each partition
    40  i64        final_ms: event time at which the targets became final
    48  u64        user
    56  u64        first: position of token 0 in the user's whole sequence
    64  16s        parent: xxh3_128 of the whole message before it in this partition, zeros for serial 1
    80  then the columns, each padded to 8 bytes:
        key u64[n], action u64[n], ts_ms i64[n], request_ms i64[t], label u64[l], text_key u64[x],
        position i32[t], query i32[t], request u32[t], label_offset u32[t+1], text_offset u32[x+1], kind u8[n],
        texts (UTF-8)

A target is the token at `position`: a shown item (kind IMPRESSION) whose label is the set of actions on it within the
window, or an organic action (kind ACTION), whose item is the positive. `query` is the last token before the request,
-1 if the user has none; targets with one `request` number were shown together (or are one organic action).

Each message names the one before it by `parent`, so that the last message's digest stands for all examples of its
partition: two logs that differ anywhere differ in every parent after it.
An example without tokens says that its user is forgotten: whoever keeps examples drops the user's.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128, xxh3_128_digest

from stream.errors import DamagedError, FormatError
from stream.event_times import event_time
from stream.schema.bounds import MAX_JSON_BYTES, JsonBoundsError, check_json
from stream.schema.ids import MAX_ID_BYTES, NO_KEY, attribute_text, id_key, id_text
from stream.schema.printable import printable
from stream.schema.record_time import DEFAULT_BOUNDS, Headers, TimeBounds, unreadable
from stream.schema.tokens import END_OF_TIME_MS, LAST_TS_MS, TOKEN_DTYPE, Kind

__all__ = [  # all that model/ may import of stream/
    "DEFAULT_BOUNDS",
    "END_OF_TIME_MS",
    "LAST_TS_MS",
    "MAGIC",
    "MAX_ID_BYTES",
    "MAX_JSON_BYTES",
    "NO_KEY",
    "NO_PARENT",
    "TOKEN_DTYPE",
    "DamagedError",
    "Example",
    "FormatError",
    "Heartbeat",
    "JsonBoundsError",
    "Kind",
    "Record",
    "TimeBounds",
    "attribute_text",
    "check_json",
    "content",
    "decode",
    "encode_example",
    "encode_heartbeat",
    "event_time",
    "farewell",
    "fingerprint",
    "id_key",
    "id_text",
    "message_digest",
    "printable",
    "unreadable",
]

MAGIC: Final = b"HSTE"
VERSION: Final = 2
NO_PARENT: Final = bytes(16)
_EXAMPLE, _HEARTBEAT = 1, 2
_START: Final = struct.Struct("<4sHH")
_HEAD: Final = struct.Struct("<4sHHIIIIIIQqQQ16s")
_BODY: Final = 6  # where the message's own content begins; what lies before is magic and version
_PARENT: Final = _HEAD.size - 16
_CONTENT: Final = MAGIC + b"\1\0"  # what contents have begun with since version 1, which had no parent
_BEAT: Final = struct.Struct("<4sHHIIqQ16s")


class Record(Protocol):
    """A Kafka record, or what replay in one process uses in its place."""

    @property
    def offset(self) -> int:
        """Its offset in the partition."""

    @property
    def key(self) -> bytes | None:
        """The user's id; the item's in topic `items`."""

    @property
    def value(self) -> bytes | None:
        """The message; None is a tombstone."""

    @property
    def timestamp(self) -> int:
        """Kafka's own time of the record in ms."""

    @property
    def headers(self) -> Headers:
        """The record's headers."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """Targets of one user that leave together; the columns are views into the message's bytes."""

    partition: int
    serial: int
    final_ms: int
    user: int
    first: int
    keys: NDArray[np.uint64]  # [n]
    actions: NDArray[np.uint64]  # [n]
    ts_ms: NDArray[np.int64]  # [n]
    kinds: NDArray[np.uint8]  # [n]
    positions: NDArray[np.int32]  # [t] into the tokens above
    queries: NDArray[np.int32]  # [t] into the tokens above, or -1
    requests: NDArray[np.uint32]  # [t]
    request_ms: NDArray[np.int64]  # [t]
    label_offsets: NDArray[np.uint32]  # [t+1]
    labels: NDArray[np.uint64]  # [l] keys of action names
    text_keys: NDArray[np.uint64]  # [x]
    texts: tuple[str, ...]  # [x] of ids in tokens that are new since the user's last example
    parent: bytes = NO_PARENT  # digest of the message before it in this partition


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing that became final before `watermark_ms` will follow in this partition of `examples`."""

    partition: int
    watermark_ms: int
    tokens: int = 0
    sequences_digest: bytes = bytes(16)


class Head(NamedTuple):
    """What a message says of its example besides the columns."""

    partition: int
    serial: int
    final_ms: int
    user: int
    first: int
    parent: bytes


def encode_example(example: Example) -> bytes:
    """Return the message of an example."""
    head = Head(example.partition, example.serial, example.final_ms, example.user, example.first, example.parent)
    counts = len(example.keys), len(example.positions), len(example.labels)
    arrays = [getattr(example, name) for name, _ in _COLUMNS if name != "text_offsets"]
    arrays.insert(_TEXT_OFFSETS, ())
    data = [np.asarray(array, dtype).tobytes() for array, (_, dtype) in zip(arrays, _COLUMNS, strict=True)]
    columns = [column + bytes(-len(column) % 8) for column in data]
    return pack_example(head, counts, columns, [text.encode() for text in example.texts])


def pack_example(head: Head, counts: tuple[int, int, int], columns: list[bytes], texts: Sequence[bytes]) -> bytes:
    """Return the message of an example whose columns are bytes already.

    Args:
        head: What it says besides them.
        counts: The numbers of tokens, targets and labels.
        columns: In the order of _COLUMNS, each padded to 8 bytes; the one of the texts' offsets is made here.
        texts: The texts of the ids in `text_keys`, in UTF-8.
    """
    ends = list(accumulate(map(len, texts), initial=0))
    columns[_TEXT_OFFSETS] = struct.pack(f"<{len(ends)}I{len(ends) % 2 * 4}x", *ends)
    partition, *rest = head
    packed = _HEAD.pack(MAGIC, VERSION, _EXAMPLE, partition, *counts, len(texts), ends[-1], *rest)
    return b"".join((packed, *columns, *texts))


def message_digest(message: bytes) -> bytes:
    """Return what the next message of the partition names as its parent."""
    return xxh3_128_digest(message)


def fingerprint(record: Record) -> bytes:
    """Return the digest of a record's key, value and Kafka timestamp, by which a log that was read is known again."""
    made = xxh3_128(b"%d " % record.timestamp)
    for part in (record.key, record.value):
        made.update(b"-" if part is None else b"%d " % len(part))
        made.update(part or b"")
    return made.digest()


def content(message: bytes) -> bytes:
    """Return what an example says, apart from version and parent: equal for equal examples, whatever came before."""
    return _CONTENT + message[_BODY:_PARENT] + message[_HEAD.size :]


_COLUMNS: Final = (
    *(("keys", "<u8"), ("actions", "<u8"), ("ts_ms", "<i8"), ("request_ms", "<i8"), ("labels", "<u8")),
    *(("text_keys", "<u8"), ("positions", "<i4"), ("queries", "<i4"), ("requests", "<u4")),
    *(("label_offsets", "<u4"), ("text_offsets", "<u4"), ("kinds", "u1")),
)
_TEXT_OFFSETS: Final = [name for name, _ in _COLUMNS].index("text_offsets")


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """Return the message of a heartbeat on `examples`."""
    return _BEAT.pack(
        MAGIC, VERSION, _HEARTBEAT, beat.partition, 0, beat.watermark_ms, beat.tokens, beat.sequences_digest
    )


def decode(message: bytes) -> Example | Heartbeat:
    """Return the example or heartbeat of a message, copying no column.

    Raises:
        FormatError: The message is not ours, or another version wrote it.
        DamagedError: It is too short or too long, or its parts do not fit together.
    """
    if len(message) < _START.size or message[:4] != MAGIC:
        raise FormatError(
            f"A message of {len(message)} bytes that starts with {message[:4]!r} is no example of hstu-stream "
            f"(which starts with {MAGIC!r}); check what else writes to this topic."
        )
    _, version, kind = _START.unpack_from(message)
    if version != VERSION or kind not in (_EXAMPLE, _HEARTBEAT):
        raise FormatError(
            f"An example message of version {version}, type {kind} cannot be read by this hstu-stream, which knows "
            f"version {VERSION}, types 1 and 2. Let workers and trainers be of one version; examples of an older one "
            "have to be made again from the events, under another stream.topic_prefix and data_dir."
        )
    return _decode_beat(message) if kind == _HEARTBEAT else _decode_example(message)


def farewell(partition: int, serial: int, final_ms: int, user: int, parent: bytes = NO_PARENT) -> Example:
    """Return the example without tokens that says that a user is forgotten."""
    columns: dict[str, Any] = {name: np.empty(0, dtype) for name, dtype in _COLUMNS if not name.endswith("_offsets")}
    columns["label_offsets"] = np.zeros(1, "<u4")
    return Example(partition, serial, final_ms, user, 0, texts=(), parent=parent, **columns)


def _decode_beat(message: bytes) -> Heartbeat:
    if len(message) != _BEAT.size:
        raise DamagedError(f"A heartbeat on examples has {len(message)} bytes instead of {_BEAT.size}: truncated.")
    _, _, _, partition, _, watermark_ms, tokens, digest = _BEAT.unpack(message)
    if watermark_ms > END_OF_TIME_MS:
        raise DamagedError(f"A heartbeat on examples names {watermark_ms} ms, a time after the end of time.")
    return Heartbeat(partition, watermark_ms, tokens, digest)


def _decode_example(message: bytes) -> Example:
    size = len(message)
    if size < _HEAD.size:
        raise DamagedError(f"An example has {size} bytes, fewer than its header of {_HEAD.size}: it is truncated.")
    _, _, _, partition, n, t, l, x, text_bytes, serial, final_ms, user, first, parent = _HEAD.unpack_from(message)  # noqa: E741
    counts = (n, n, n, t, l, x, t, t, t, t + 1, x + 1, n)
    columns: dict[str, NDArray[Any]] = {}
    at = _HEAD.size
    sizes = [_padded(np.dtype(dtype).itemsize * count) for (_, dtype), count in zip(_COLUMNS, counts, strict=True)]
    ends = at + sum(sizes)
    if size != ends + text_bytes:
        raise DamagedError(
            f"An example (partition {partition}, serial {serial}) has {size} bytes where its header asks for "
            f"{ends + text_bytes}: it is truncated or damaged; read it again from Kafka."
        )
    for (name, dtype), count, padded in zip(_COLUMNS, counts, sizes, strict=True):
        columns[name] = np.frombuffer(message, dtype, count, at)
        at += padded
    offsets = columns.pop("text_offsets").tolist()
    try:
        texts = tuple(message[at + a : at + b].decode() for a, b in pairwise(offsets))
        example = Example(partition, serial, final_ms, user, first, texts=texts, parent=parent, **columns)
    except UnicodeDecodeError:
        example = None
    if example is None or not (_ascend(offsets, text_bytes) and _is_sound(example)):
        raise DamagedError(
            f"An example (partition {partition}, serial {serial}) is damaged: its columns do not fit together; read it "
            "again from Kafka, or see what else writes to this topic."
        )
    return example


def _ascend(offsets: list[int], end: int) -> bool:
    return offsets[0] == 0 and offsets[-1] == end and offsets == sorted(offsets)


def _is_sound(example: Example) -> bool:
    """Return whether every index points into its column; lists are quicker than arrays for a few targets."""
    positions, queries, tokens = example.positions.tolist(), example.queries.tolist(), len(example.keys)
    return (
        all(0 <= position < tokens for position in positions)
        and all(-1 <= query < tokens for query in queries)
        and _ascend(example.label_offsets.tolist(), len(example.labels))
        and int(example.kinds.max(initial=0)) <= max(Kind)
    )


def _padded(size: int) -> int:
    return -(-size // 8) * 8
