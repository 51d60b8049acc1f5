"""What a broker takes, both libraries read: batches made by hand, sent to the real Kafka, fetched back."""

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import codec
from aiokafka.record import memory_records as by_aiokafka
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, strategies as st
from kafka.record import memory_records as by_kafka_python

from stream.kafka.connection import Kafka
from stream.kafka.record_batches import read_batch, tolerant
from stream.kafka.unpack import MAX_BATCH_BYTES
from stream.operations.records import read_topic
from stream.schema.record_time import unreadable
from tests.kafka_logs import make_topics, read
from tests.raw_records import batch, produce, record, sized, varint

PARSERS = (by_aiokafka.MemoryRecords, by_aiokafka._MemoryRecordsPy, by_kafka_python.MemoryRecords)  # C and Python
NAMELESS = [(b"good", b"1"), (b"\xff\xfe", b"x")]
TWO = record(b"k", b"1"), record(b"k", b"2", delta=1)
WIDE = b"\0\0\0" + b"\x82\x80\x80\x80\x70" + b"k" + sized(b"1") + varint(0)  # the key's length has 35 bits, the low 1


def nameless(delta: int = 0) -> bytes:
    return record(b"k", b"1", NAMELESS, delta=delta)


BAD_NAME = "the name of a header is not UTF-8"
BAD_BATCH = "its batch cannot be read"
READABLE = {  # what libraries refuse or misread, though it can be read: the values are "1", "2", …
    "attributes": batch(record(b"k", b"1", attributes=0x80), 1),
    "wide length": batch(varint(len(WIDE)) + WIDE, 1),
    "one offset twice": batch(record(b"k", b"1") + record(b"k", b"2"), 2),
    "an offset beyond": batch(record(b"k", b"1", delta=5) + record(b"k", b"2"), 2),
    "an offset before": batch(record(b"k", b"1", delta=-3), 1),
}
UNREADABLE = {
    "name": (batch(nameless(), 1), [BAD_NAME]),
    "second name": (batch(TWO[0] + nameless(1), 2), ["", BAD_NAME]),
    "gzip": (batch(gzip.compress(nameless(), mtime=0), 1, codec=1), [BAD_NAME]),
    "snappy": (batch(codec.snappy_encode(nameless()), 1, codec=2), [BAD_NAME]),
    "lz4": (batch(codec.lz4_encode(nameless()), 1, codec=3), [BAD_NAME]),
    "zstd": (batch(codec.zstd_encode(nameless()), 1, codec=4), [BAD_NAME]),
    "behind gzip": (batch(gzip.compress(b"".join(TWO), mtime=0) + b"junk", 2, codec=1), [BAD_BATCH] * 2),
    "behind lz4": (batch(codec.lz4_encode(TWO[0]) + bytes(32), 1, codec=3), [BAD_BATCH]),
    "snappy twice": (batch(codec.snappy_encode(TWO[0]) + codec.snappy_encode(TWO[1]), 2, codec=2), [BAD_BATCH] * 2),
    "bomb": (batch(codec.zstd_encode(record(b"k", bytes(MAX_BATCH_BYTES))), 1, codec=4), [BAD_BATCH]),
}


def parse(parser: Callable[[bytes], Any], data: bytes) -> list[Any]:
    """Return the records of all batches."""
    records, found = tolerant(parser)(data), []
    while records.has_next():
        made = records.next_batch()
        assert made.validate_crc()
        found += [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers)) for r in made]
    return found


@pytest.mark.parametrize("parser", PARSERS)
def test_readable_records_are_read(parser: Callable[[bytes], Any]) -> None:
    """Each record has its own place in the log, its key and its value, however its batch was written."""
    for name, data in READABLE.items():
        found = [(offset, key, value) for offset, _, _, key, value, _ in parse(parser, data)]
        assert found == [(n, b"k", b"%d" % (n + 1)) for n in range(len(found))], name
        assert found, name


@pytest.mark.parametrize("parser", PARSERS)
def test_unreadable_records_say_why(parser: Callable[[bytes], Any]) -> None:
    """Key, value and other headers stay where they can be read; neighbours in the batch are as they were."""
    for name, (data, reasons) in UNREADABLE.items():
        found = parse(parser, data)
        assert [offset for offset, *_ in found] == list(range(len(reasons))), name
        for (*_, key, value, headers), reason in zip(found, reasons, strict=True):
            assert dict(headers).get("hstu-unreadable", b"").decode().startswith(reason), name
            if reason == BAD_NAME:
                assert (key, value, headers[0]) == (b"k", b"1", ("good", b"1"))


MUCH = record(b"k", bytes(MAX_BATCH_BYTES))
MANY = bytes(3) + 2 * sized(None) + varint(3_000_000) + 3_000_000 * (sized(b"") + sized(None))  # a record's headers
BOMBS = {  # content of a batch as zstd, how many records it claims, what is said of it
    "gigabytes": (codec.zstd_encode(MUCH) * 99, 99, f"cannot be unpacked to {MAX_BATCH_BYTES} bytes or fewer"),
    "records": (codec.zstd_encode(record(None, None) * 262_145), 262_145, "262145 records where 262144"),
    "headers": (codec.zstd_encode(varint(len(MANY)) + MANY), 1, "3000000 headers where 1048576"),
    "claims": (codec.zstd_encode(TWO[0]), 2**31 - 1, "2147483647 records where 262144"),
    "a number": (codec.zstd_encode(b"\xff" * MAX_BATCH_BYTES), 1, "a number does not end"),
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_takes_memory(bomb: str, parser: Callable[[bytes], Any]) -> None:
    """What unpacks to more bytes, records or headers than memory should hold says so; the next batch is read."""
    content, count, why = BOMBS[bomb]
    data = batch(content, count, codec=4)
    good = (2**40).to_bytes(8, "big") + batch(TWO[0], 1)[8:]
    *refused, last = parse(parser, data + good)
    assert [offset for offset, *_ in refused] == list(range(count if count < 100 else 1))
    assert all(why in dict(headers)["hstu-unreadable"].decode() for *_, headers in refused)
    assert refused[0][4] == content
    assert last[4] == b"1"


def test_the_bound_holds_for_every_codec() -> None:
    """A record of as many bytes as the bound is too long, whatever packs it."""
    packed = {
        1: gzip.compress(MUCH, compresslevel=1),
        2: codec.snappy_encode(MUCH, xerial_blocksize=1 << 20),
        3: codec.lz4_encode(MUCH, level=1),
        4: codec.zstd_encode(MUCH, level=1),
    }
    batches = [batch(content, 1, codec=number) for number, content in packed.items()]
    batches.append(batch(codec.snappy_encode(MUCH, xerial_compatible=False), 1, codec=2))
    batches.append(batch(b"\xff\xff\xff\xff\x0f\0a", 1, codec=2))  # claims to be 4 GiB
    for data in batches:
        assert f"cannot be unpacked to {MAX_BATCH_BYTES}" in unreadable(read_batch(data)[0])


def test_both_clients_read_on_behind_what_a_broker_has_taken(bootstrap: str, topic_prefix: str) -> None:
    """aiokafka and kafka-python bring every record of a real log once, in order; Kafka has taken each of these."""
    topic, expected = f"{topic_prefix}odd", list[str]()
    asyncio.run(make_topics(bootstrap, [topic], 1))
    for data, reasons in [*((data, [""] * data[60]) for data in READABLE.values()), *UNREADABLE.values()]:
        assert produce(bootstrap, topic, 0, data) == 0
        assert produce(bootstrap, topic, 0, batch(record(b"k", b"good"), 1)) == 0
        expected += [*reasons, ""]
    for found in (asyncio.run(read(bootstrap, topic, 1))[0], list(read_topic(Kafka(bootstrap), topic))):
        assert [record.offset for record in found] == list(range(len(expected)))
        said = [unreadable(record).partition(":")[0] for record in found]
        assert said == [why and heard for why, heard in zip(said, expected, strict=True)]
        assert said.count(BAD_NAME) == expected.count(BAD_NAME)


texts = st.none() | st.binary(max_size=200)
pairs = st.lists(st.tuples(st.text(max_size=9), texts), max_size=3)


@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.integers(0, 2**40), texts, texts, pairs), min_size=1, max_size=9),
    st.integers(0, 2**40),
)
def test_usual_batches_are_read_as_by_the_library(compression: int, records: list[Any], base: int) -> None:
    """Our reader agrees with aiokafka's on whatever its builder makes, compressed or not."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)
    for n, (time_ms, key, value, headers) in enumerate(records):
        builder.append(n, timestamp=time_ms, key=key, value=value, headers=headers)
    data = base.to_bytes(8, "big") + bytes(builder.build())[8:]
    ours = [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers)) for r in read_batch(data)]
    assert ours == parse(by_aiokafka.MemoryRecords, data)


def test_a_false_checksum_is_the_librarys_error() -> None:
    """What a disk has damaged is not taken for what a producer has sent."""
    data = bytearray(batch(record(b"k", b"1"), 1))
    data[-2] ^= 1
    records = tolerant(by_aiokafka.MemoryRecords)(bytes(data))
    assert not records.next_batch().validate_crc()
