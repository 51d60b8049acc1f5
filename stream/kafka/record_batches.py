"""Reads what Kafka's log holds by the rules of Kafka itself, where aiokafka and kafka-python raise or lose a record.

A broker checks the structure of a batch before it appends it, but takes what the two libraries do not read:

    in the batch                           the libraries                        here
    a header's name that is not UTF-8      UnicodeDecodeError                   the record, with header hstu-unreadable
    what cannot be decompressed            errors of all kinds                  one such record for each that it counts
    gigabytes in a compressed megabyte     all of them, in memory               the same (unpack.py), or one for all
    an attributes byte above 127           key and offset of another record     the record
    a length of more than 32 bits          CorruptRecordException               its low 32 bits, as in Java
    offsets not ascending in the batch     records skipped, a position beyond   the record's place in the batch

Batches are decompressed here. Consumers then get those of the library's own parser, and those of this module only where
it raises, or where offsets do not ascend: so the usual batch is parsed in C. A checksum that is wrong stays an error of
the library.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import lt
from typing import Any, Final

from stream.kafka.unpack import MAX_BATCH_RECORDS, unpack_batch
from stream.schema.record_time import UNREADABLE_HEADER, Headers

_OVERHEAD: Final = 12  # base offset i64, length i32: the length counts what follows
_MAGIC: Final = 16
_HEAD: Final = struct.Struct(">q13xhiqq14xi")  # base offset, attributes, last delta, first and last time in ms, count
_APPEND_TIME: Final = 0x08
_MOST_VARINT_BITS: Final = 70  # in 10 bytes
_MAX_HEADERS: Final = 1 << 20  # of a batch: the shortest has 2 bytes, and 64 as an object
_IN_C_BYTES: Final = 4 << 20  # the libraries' parsers bound no headers, so that larger batches are not for them
_SHOWN_BYTES: Final = 160


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record as the fetchers of both libraries want it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    size_in_bytes: int
    checksum: None = None

    def validate_crc(self) -> bool:
        """Return true: the checksum is the batch's."""
        return True


class _Batch:
    """A batch of the library, whose records come from this module where the library cannot read them."""

    def __init__(self, parser: Callable[[bytes], Any], batch: Any, data: bytes) -> None:
        self._parser, self._batch, self._data = parser, batch, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(iter(self))  # both libraries look at the one record of a control batch so

    def __iter__(self) -> Iterator[Any]:
        with suppress(Exception):  # parsers raise whatever occurs to them
            unpacked = unpack_batch(self._data)
            if len(unpacked) <= _IN_C_BYTES:
                records = list(self._batch if unpacked is self._data else self._parser(unpacked).next_batch())
                if _ascend([record.offset for record in records], self._batch.base_offset, self._batch.next_offset):
                    return iter(records)
        return iter(read_batch(self._data))


def tolerant(parser: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a library's class MemoryRecords, with batches that can be read whatever a broker has taken."""

    class Records:
        """All batches of one answer to a fetch."""

        def __init__(self, data: bytes) -> None:
            self._data, self._at = data, 0
            self._records = parser(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._records, name)

        def next_batch(self) -> Any:
            """Return the next batch, None after the last."""
            batch, start = self._records.next_batch(), self._at
            if batch is None:
                return None
            self._at += _OVERHEAD + int.from_bytes(self._data[start + 8 : start + _OVERHEAD], "big")
            data = bytes(self._data[start : self._at])
            return _Batch(parser, batch, data) if data[_MAGIC] == 2 else batch  # older formats have no headers

    return Records


def read_batch(data: bytes) -> list[LogRecord]:
    """Return the records of a batch of format 2, whose checksum is right; those that cannot be read say so."""
    base, attributes, last, first_ms, last_ms, count = _HEAD.unpack_from(data)
    kind = int(bool(attributes & _APPEND_TIME))
    try:
        parsed = list(_parse(unpack_batch(data)[_HEAD.size :], count))
    except (IndexError, ValueError) as error:
        headers = [(UNREADABLE_HEADER, f"its batch cannot be read: {error}"[:_SHOWN_BYTES].encode())]
        letters = count if count <= MAX_BATCH_RECORDS else 1
        values = [data[_HEAD.size :] if n == 0 else None for n in range(letters)]
        return [LogRecord(base + n, last_ms, kind, None, value, headers, 0) for n, value in enumerate(values)]
    deltas = [record.delta for record in parsed]
    if not _ascend(deltas, 0, last + 1):
        deltas = list(range(count))
    return [
        LogRecord(
            base + delta,
            last_ms if kind else first_ms + record.delta_ms,
            kind,
            record.key,
            record.value,
            _decoded(record.headers),
            record.size,
        )
        for delta, record in zip(deltas, parsed, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Parsed:
    delta: int
    delta_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[bytes, bytes | None]]
    size: int


def _parse(content: bytes, count: int) -> Iterator[_Parsed]:
    """Yield the records of a batch's content.

    Raises:
        IndexError, ValueError: A length points beyond the content, which no broker takes; or it has too many headers.
    """
    at = named = 0
    for _ in range(count):
        size, at = _varint(content, at)
        delta_ms, place = _varint(content, at + 1, 64)  # after the attributes, which nothing uses
        delta, place = _varint(content, place)
        key, place = _sized(content, place)
        value, place = _sized(content, place)
        pairs, place = _varint(content, place)
        named += pairs
        if named > _MAX_HEADERS:
            raise ValueError(f"it has {named} headers where {_MAX_HEADERS} are allowed")
        headers = []
        for _ in range(pairs):
            name, place = _sized(content, place)
            text, place = _sized(content, place)
            headers.append((name or b"", text))
        at += size
        if place != at:
            raise ValueError(f"a record of {size} bytes does not end where they do")
        yield _Parsed(delta, delta_ms, key, value, headers, size)


def _varint(content: bytes, at: int, bits: int = 32) -> tuple[int, int]:
    """Return a zigzag varint, of which Kafka keeps the low bits, and the place after it."""
    number = 0
    for shift in range(0, _MOST_VARINT_BITS, 7):
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise ValueError("a number does not end")
    number &= (1 << bits) - 1
    return number >> 1 ^ -(number & 1), at


def _sized(content: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = _varint(content, at)
    if size < 0:
        return None, at
    if at + size > len(content):
        raise ValueError(f"{size} bytes are said to follow, where {len(content) - at} do")
    return content[at : at + size], at + size


def _ascend(offsets: Sequence[int], first: int, end: int) -> bool:
    """Return whether these ascend within [first, end)."""
    return not offsets or (first <= offsets[0] and offsets[-1] < end and all(map(lt, offsets, offsets[1:])))


def _decoded(headers: Sequence[tuple[bytes, bytes | None]]) -> Headers:
    """Return the headers whose names can be read, and one more that tells of the others."""
    decoded, wrong = [], b""
    for name, value in headers:
        try:
            decoded.append((name.decode(), value))
        except UnicodeDecodeError:
            wrong = name
    if wrong:
        decoded.append((UNREADABLE_HEADER, f"the name of a header is not UTF-8: {wrong[:_SHOWN_BYTES]!r}".encode()))
    return decoded
