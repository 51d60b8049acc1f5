"""Ids: JSON strings or integers outside, 64-bit keys inside.

The key of an id is xxh3_64 of its UTF-8 text, so that 42 and "42" are one id. Action names ("like") and attribute
values ("country=NO") are keys of the same kind. Two texts with one key are a collision; TextIndex and UserCache
(stream/store/caches.py) notice it.
"""

from functools import lru_cache
from typing import Final

from xxhash import xxh3_64_intdigest

NO_KEY: Final = 0  # the action of a token that has none

MAX_ID_BYTES: Final = 256


def id_text(raw: str | int) -> str:
    """Return the text of an id as it came in JSON: 42 and "42" are both "42"."""
    return raw if isinstance(raw, str) else str(raw)


def id_key(text: str) -> int:
    """Return the 64-bit key of an id's text, in [0, 2**64)."""
    return xxh3_64_intdigest(text.encode())


class BadIdError(ValueError):
    """An id that is empty or too long."""


@lru_cache(maxsize=1 << 17)
def keyed(raw: str | int) -> tuple[int, str]:
    """Return the key and the text of an id as it came in JSON; what comes often is found again.

    Raises:
        BadIdError: It is empty, or has more than MAX_ID_BYTES.
    """
    text = id_text(raw)
    if not text or (len(text) * 4 > MAX_ID_BYTES and len(text.encode()) > MAX_ID_BYTES):
        raise BadIdError
    return id_key(text), text


def attribute_text(name: str, value: str) -> str:
    """Return the text whose key stands for one value of one attribute."""
    return f"{name}={value}"


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner (murmur2 in Java, kafka-python, aiokafka) gives a key."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """Return the 32-bit MurmurHash2 of the bytes, with the seed of Kafka's clients."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    state = 0x9747B28C ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        state = (state * multiplier & mask) ^ word
    if tail := data[whole:]:
        state = (state ^ int.from_bytes(tail, "little")) * multiplier & mask
    state = (state ^ state >> 13) * multiplier & mask
    return state ^ state >> 15
