"""Decompresses record batches of Kafka's, within a bound: a batch of 1 MiB can hold gigabytes.

Clients' own decompressors have none. Whatever exceeds the bounds is refused before it takes memory, and no more of a
batch is unpacked than MAX_BATCH_BYTES.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

import cramjam
import numpy as np

MAX_BATCH_BYTES: Final = 32 << 20  # unpacked; the largest record that a worker writes has half of it
MAX_BATCH_RECORDS: Final = 1 << 18  # each is an object of some 300 bytes in Python; an empty record has 7

_OFFSET_BYTES: Final = 8  # the length of what follows it comes next, in 4 bytes
_AFTER_LENGTH: Final = 12
_ATTRIBUTES: Final = 22  # its low byte, where the codec is
_HEAD_BYTES: Final = 61  # before the records
_CODEC: Final = 0x07
_COUNT: Final = struct.Struct(">57xi")
_SNAPPY: Final = 2
_DECOMPRESSORS: Final[dict[int, Callable[[Any, Any], int]]] = {
    1: cramjam.gzip.decompress_into,
    _SNAPPY: cramjam.snappy.decompress_raw_into,
    3: cramjam.lz4.decompress_into,
    4: cramjam.zstd.decompress_into,
}
_XERIAL: Final = b"\x82SNAPPY\x00"  # before snappy blocks as Java writes them, each behind its length
_XERIAL_BYTES: Final = 16


def unpack_batch(data: bytes) -> bytes:
    """Return a batch of format 2 without its compression; its checksum is that of the compressed one.

    Raises:
        ValueError: It has too many records, too many bytes, or is not what its codec writes.
    """
    (count,) = _COUNT.unpack_from(data)
    if count > MAX_BATCH_RECORDS:
        raise ValueError(f"it has {count} records where {MAX_BATCH_RECORDS} are allowed")
    codec = data[_ATTRIBUTES] & _CODEC
    if not codec:
        return data
    records = _unpack(codec, memoryview(data)[_HEAD_BYTES:])
    head = bytearray(data[:_HEAD_BYTES])
    head[_OFFSET_BYTES:_AFTER_LENGTH] = (_HEAD_BYTES - _AFTER_LENGTH + len(records)).to_bytes(4, "big")
    head[_ATTRIBUTES] &= ~_CODEC
    return b"".join((head, records))


def _unpack(codec: int, packed: memoryview) -> memoryview:
    if codec not in _DECOMPRESSORS:
        raise ValueError(f"its codec has the unknown number {codec}")
    decompress_into = _DECOMPRESSORS[codec]
    unpacked = np.empty(MAX_BATCH_BYTES, np.uint8)  # pages that nothing is written to take no memory
    size = 0
    try:
        for block in _blocks(packed) if codec == _SNAPPY else [packed]:
            size += decompress_into(block, unpacked[size:])
    except cramjam.DecompressionError as error:
        raise ValueError(f"it cannot be unpacked to {MAX_BATCH_BYTES} bytes or fewer: {error}") from None
    return unpacked[:size].data


def _blocks(packed: memoryview) -> list[memoryview]:
    """Return the blocks of snappy data."""
    if packed[: len(_XERIAL)].tobytes() != _XERIAL:
        return [packed]
    blocks, at = [], _XERIAL_BYTES
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 4], "big")
        blocks.append(packed[at + 4 : at + 4 + size])
        at += 4 + size
    return blocks
