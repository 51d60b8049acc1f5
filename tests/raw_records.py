"""Record batches of Kafka's format 2 made by hand, byte for byte, as no producer's library would write them."""

import socket
import struct
import time
from collections.abc import Sequence

from aiokafka.record.util import calc_crc32c

_HEADER = struct.Struct(">hiqqqhii")  # attributes … number of records: what the checksum covers, before the records

_NO_LEADER_YET = (3, 6)


def varint(number: int) -> bytes:
    """Return a zigzag varint."""
    zigzag = number << 1 if number >= 0 else (-number << 1) - 1
    encoded = bytearray()
    while zigzag > 0x7F:
        encoded.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    encoded.append(zigzag)
    return bytes(encoded)


def sized(data: bytes | None) -> bytes:
    """Return nullable bytes after their length."""
    return varint(-1) if data is None else varint(len(data)) + data


def record(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[bytes, bytes | None]] = (),
    *,
    delta: int = 0,
    attributes: int = 0,
) -> bytes:
    """Return one record; `delta` is its offset in the batch."""
    pairs = b"".join(sized(name) + sized(text) for name, text in headers)
    body = bytes([attributes]) + varint(0) + varint(delta) + sized(key) + sized(value) + varint(len(headers)) + pairs
    return varint(len(body)) + body


def batch(records: bytes, count: int, *, timestamp_ms: int = 0, codec: int = 0) -> bytes:
    """Return a batch of records, which are compressed already if `codec` says so."""
    covered = _HEADER.pack(codec, count - 1, timestamp_ms, timestamp_ms, -1, -1, -1, count) + records
    rest = struct.pack(">ibI", -1, 2, calc_crc32c(covered)) + covered
    return struct.pack(">qi", 0, len(rest)) + rest


def produce(bootstrap: str, topic: str, partition: int, data: bytes) -> int:
    """Send a batch to the one broker there; return Kafka's error code, 0 if it has taken the batch."""
    name = topic.encode()
    request = struct.pack(">hhih1s", 0, 7, 1, 1, b"t")  # Produce, version 7, correlation, client
    request += struct.pack(">hhii", -1, -1, 10_000, 1)  # no transaction, acks of all, ms, topics
    request += struct.pack(">h", len(name)) + name + struct.pack(">iii", 1, partition, len(data)) + data
    for _ in range(100):
        code = _ask(bootstrap, request, 4 + 4 + 2 + len(name) + 4 + 4)
        if code not in _NO_LEADER_YET:
            break
        time.sleep(0.05)
    return code


def _ask(bootstrap: str, request: bytes, place: int) -> int:
    """Return the i16 at a place of the answer."""
    host, _, port = bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = _receive(connection, struct.unpack(">i", _receive(connection, 4))[0])
    return int(struct.unpack_from(">h", answer, place)[0])


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += connection.recv(size - len(received)) or b"\0" * size
    return received
