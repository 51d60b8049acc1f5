"""Partitions and their senders, with a producer whose records a test can read."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from stream.config import StreamSettings
from stream.errors import BrokerError, StoreBusyError, StoreError
from stream.example import Example, Heartbeat, Kind, decode, encode_example
from stream.join.partition import Partition
from stream.kafka.topics import EXAMPLE_BYTES
from stream.operations.store_logs import Reached
from stream.schema.ids import MAX_ID_BYTES
from stream.schema.topics import SourceTopic
from stream.store.rocksdb import open_store, partition_path
from stream.worker import backups, partitions
from stream.worker.partitions import AssignedPartitions
from tests.kafka_logs import until
from tests.memory_store import MemoryStore
from tests.wire import Record, action, wire

SETTINGS = StreamSettings(partitions=1, lateness_s=0, gather_targets=1)
OTHERS = (SourceTopic.IMPRESSIONS, SourceTopic.ATTRIBUTES)


def alike(number: int, reached: Reached, *, goes_on: bool) -> None:
    """Find Kafka's logs to be those that a store has read."""


class Producer:
    """Takes records, and shows how many came at a time."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.letters: list[tuple[bytes | None, bytes, dict[str, bytes]]] = []
        self.batches: list[int] = []
        self.refuses = False

    def create_batch(self) -> "Batch":
        return Batch()

    async def send_batch(self, batch: "Batch", topic: str, partition: int) -> Any:
        await asyncio.sleep(0)
        if self.refuses:
            raise MessageSizeTooLargeError
        self.values += batch.values
        self.batches.append(len(batch.values))
        return asyncio.sleep(0)

    async def send(self, topic: str, value: bytes, *, key: bytes | None, headers: list[tuple[str, bytes]]) -> Any:
        self.letters.append((key, value, dict(headers)))
        return asyncio.sleep(0)


class Batch:
    """aiokafka's batch builder."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, key: bytes | None, value: bytes, timestamp: int | None) -> int:
        self.values.append(value)
        return len(self.values)


def with_partition(tmp_path: Path, test: Callable[[AssignedPartitions, Producer, list[Exception]], Any]) -> None:
    """Run a test with partition 0 open."""

    async def run() -> None:
        producer, errors = Producer(), list[Exception]()
        partitions = AssignedPartitions(SETTINGS, tmp_path, producer, errors.append, alike)  # type: ignore[arg-type]
        await partitions.open("actions", 0)
        for source in SourceTopic:
            partitions.begun(source.topic, 0, None)
        try:
            await test(partitions, producer, errors)
        finally:
            await partitions.close()

    asyncio.run(run())


def clicks(count: int) -> list[Any]:
    return [Record(i, wire(action(f"u{i % 7}", f"i{i}", 1000 + i))) for i in range(count)]


async def let_go(partitions: AssignedPartitions, last_ms: int) -> None:
    """Let the heartbeats come that a worker writes into topics in which nothing comes."""
    for source in OTHERS:
        await partitions.handle(source, 0, [Record(0, wire({"watermark": last_ms}))])  # type: ignore[list-item]


def test_a_long_wait_is_joined_and_sent_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When silent topics no longer hold the others back, no commit is huge, and the examples are the same."""
    monkeypatch.setattr(partitions, "_TURN_TOKENS", 40)
    at_once = Partition(MemoryStore({}), 0, SETTINGS)
    at_once.handle(SourceTopic.ACTIONS, clicks(300))
    for source in OTHERS:
        at_once.handle(source, [Record(0, wire({"watermark": 1299}))])
    expected = [out.value for out in at_once.outbox.unsent() if isinstance(decode(out.value), Example)]

    async def test(partitions: AssignedPartitions, producer: Producer, errors: list[Exception]) -> None:
        await partitions.handle(SourceTopic.ACTIONS, 0, clicks(300))  # type: ignore[arg-type]
        partition = partitions[0].partition
        assert (partition.waiting, producer.values) == (300, [])
        await let_go(partitions, 1299)
        await until(lambda: not partition.behind and not partition.outbox, "everything sent")
        sent = [decode(value) for value in producer.values]
        assert [value for value in producer.values if isinstance(decode(value), Example)] == expected
        assert [isinstance(message, Heartbeat) for message in sent] == [False] * len(expected) + [True]
        assert (len(producer.batches) > 5, max(producer.batches) <= 40) == (True, True)
        assert not errors

    with_partition(tmp_path, test)


def test_the_next_owner_goes_on_joining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition closed between two turns is joined to its end by its next owner, without another record."""
    monkeypatch.setattr(partitions, "_TURN_TOKENS", 40)

    async def begin(partitions: AssignedPartitions, producer: Producer, errors: list[Exception]) -> None:
        await partitions.handle(SourceTopic.ACTIONS, 0, clicks(300))  # type: ignore[arg-type]
        await let_go(partitions, 1299)
        assert partitions[0].partition.behind
        await partitions.close()
        assert sum(producer.batches) < 100

    async def go_on(partitions: AssignedPartitions, producer: Producer, errors: list[Exception]) -> None:
        partition = partitions[0].partition
        await until(lambda: not partition.behind and not partition.outbox, "everything sent")
        assert partition.waiting == 1
        assert isinstance(decode(producer.values[-1]), Heartbeat)

    with_partition(tmp_path, begin)
    with_partition(tmp_path, go_on)


@pytest.mark.parametrize("key", [b"k" * 2_000_000, None, b"u" * 200_000])
@pytest.mark.parametrize("value", [b"x" * 3_000_000, b"y" * 500_000])
def test_a_dead_letter_always_fits_into_kafka(tmp_path: Path, key: bytes | None, value: bytes) -> None:
    """What is too long of key and value is cut, and the headers say from how many bytes."""

    async def test(partitions: AssignedPartitions, producer: Producer, errors: list[Exception]) -> None:
        await partitions.handle(SourceTopic.ACTIONS, 0, [Record(0, value, key)])  # type: ignore[list-item]
        await until(lambda: bool(producer.letters), "the dead-letter")
        ((sent_key, sent_value, headers),) = producer.letters
        whole = [(key or b"", sent_key or b"", "key-cut-from-bytes"), (value, sent_value, "cut-from-bytes")]
        for told, sent, header in whole:
            assert told.startswith(sent)
            assert headers.get(header) == (None if sent == told else str(len(told)).encode())
        assert len(sent_key or b"") + len(sent_value) + sum(map(len, headers.values())) < 900_000

    with_partition(tmp_path, test)


def test_a_store_that_cannot_be_opened_is_not_called_busy(tmp_path: Path) -> None:
    """Only a store that is open elsewhere may become free, and is waited for."""
    path = partition_path(tmp_path / "another process", 0)
    open_store(path).close()
    (path / "LOCK").unlink()
    (path / "LOCK").mkdir()
    with pytest.raises(StoreError, match="cannot be opened or read") as refused:
        with_partition(tmp_path / "another process", lambda *_: None)
    assert not isinstance(refused.value, StoreBusyError)


def test_a_record_that_kafka_finds_too_large_names_the_limit(tmp_path: Path) -> None:
    """The sentence says which topic, how large, and which settings of Kafka to raise."""

    async def test(partitions: AssignedPartitions, producer: Producer, errors: list[Exception]) -> None:
        producer.refuses = True
        await partitions.handle(SourceTopic.ACTIONS, 0, clicks(3))  # type: ignore[arg-type]
        await let_go(partitions, 1002)
        await until(lambda: bool(errors), "the error")
        raise errors[0]

    with pytest.raises(BrokerError, match=r"partition 0 as too large.*examples \(up to \d+ bytes\).*max.message.bytes"):
        with_partition(tmp_path, test)


def test_the_longest_example_fits_into_kafka() -> None:
    """As many tokens as the settings allow, all targets with new ids of the longest kind, fit into the topic."""
    tokens = max(m.le for m in StreamSettings.model_fields["example_tokens"].metadata if hasattr(m, "le"))
    column = np.arange(tokens, dtype=np.uint64)
    example = Example(
        partition=0,
        serial=1,
        final_ms=1,
        user=1,
        first=0,
        keys=column,
        actions=column,
        ts_ms=column.astype(np.int64),
        kinds=np.full(tokens, Kind.ACTION, np.uint8),
        positions=column.astype(np.int32),
        queries=column.astype(np.int32),
        requests=column.astype(np.uint32),
        request_ms=column.astype(np.int64),
        label_offsets=np.arange(tokens + 1, dtype=np.uint32),
        labels=column,
        text_keys=np.arange(2 * tokens, dtype=np.uint64),
        texts=("x" * MAX_ID_BYTES,) * (2 * tokens),
    )
    assert EXAMPLE_BYTES / 2 < len(encode_example(example)) < EXAMPLE_BYTES - 1024


def test_nothing_is_sent_after_a_broker_was_connected_to_anew_until_its_logs_are_the_same(tmp_path: Path) -> None:
    """A batch that had been polled before tells nothing of them; what was read last does, once it has come again."""

    async def test(partitions: AssignedPartitions, producer: Producer, errors: list[Exception]) -> None:
        some = clicks(30)
        await partitions.handle(SourceTopic.ACTIONS, 0, some[:10])
        await let_go(partitions, 1009)
        await until(lambda: not len(partitions[0].partition.outbox), "all sent")
        sent = len(producer.values)
        partitions.doubted()
        assert partitions.proven() == []
        await partitions.handle(SourceTopic.ACTIONS, 0, some[10:20])
        for source in OTHERS:
            again = [Record(offset, wire({"watermark": 1009 + 10 * offset})) for offset in (0, 1)]
            await partitions.handle(source, 0, again)  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert (len(producer.values), partitions.proven()) == (sent, [])
        await partitions.handle(SourceTopic.ACTIONS, 0, some[19:])
        await until(lambda: len(producer.values) > sent and not len(partitions[0].partition.outbox), "the rest sent")
        assert [assigned.number for assigned in partitions.proven()] == [0]
        assert errors == []

    with_partition(tmp_path, test)


def test_other_settings_than_the_stores_are_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the old values of those that decide, and until the store is written under the new ones."""
    before = StreamSettings(partitions=2)
    after = before.model_copy(update={"max_slate": 100, "replays": False, "poll_records": 7})

    async def run(settings: StreamSettings) -> list[str]:
        caplog.clear()
        opened = AssignedPartitions(settings, tmp_path, Producer(), [].append, alike)  # type: ignore[arg-type]
        for number in range(2):
            await opened.open("actions", number)
            await opened.handle(SourceTopic.ACTIONS, number, clicks(1))
        await opened.close()
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    assert asyncio.run(run(before)) == []
    (warned,) = asyncio.run(run(after))
    assert "other settings: replays = True, max_slate = 200. " in warned
    assert asyncio.run(run(after)) == []


def test_refusals_of_before_are_not_counted_again(tmp_path: Path) -> None:
    """A worker's log tells of what it refuses itself, not at each start of all that its store remembers."""

    async def run(*values: bytes) -> tuple[int, int]:
        opened = AssignedPartitions(SETTINGS, tmp_path, Producer(), [].append, alike)  # type: ignore[arg-type]
        await opened.open("actions", 0)
        begin = opened[0].partition.next_offsets[SourceTopic.ACTIONS]
        await opened.handle(SourceTopic.ACTIONS, 0, [Record(begin + n, value) for n, value in enumerate(values)])
        counts = opened[0].refused["not-json"], opened[0].partition.counters.dead_letters["not-json"]
        await opened.close()
        return counts

    assert asyncio.run(run(b"{", b"{")) == (2, 2)
    assert asyncio.run(run()) == (0, 2)
    assert asyncio.run(run(b"{")) == (1, 3)


def test_the_log_names_a_store_before_it_is_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once, however often a busy one is tried: one that hangs RocksDB stops all of the process."""
    caplog.set_level("INFO", "hstu.worker")

    async def run() -> None:
        partitions = AssignedPartitions(SETTINGS, tmp_path, Producer(), [].append, alike)  # type: ignore[arg-type]
        with closing(open_store(partition_path(tmp_path, 0))):
            for _ in range(2):
                with pytest.raises(StoreBusyError):
                    await partitions.open("actions", 0)
        for _ in range(2):
            await partitions.open("actions", 0)
            await partitions.revoked([("actions", 0)])

    asyncio.run(run())
    assert caplog.messages == ["Opening the store of partition 0", "Partition 0 is ours"] * 2


def test_the_event_loop_goes_on_while_a_store_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long RocksDB takes: Kafka has to be answered meanwhile."""

    def slowly(path: Path) -> Any:
        assert went_on.wait(5)
        return open_store(path)

    async def run() -> None:
        opened = AssignedPartitions(SETTINGS, tmp_path, Producer(), [].append, alike)  # type: ignore[arg-type]
        opening = asyncio.create_task(opened.open("actions", 0))
        await asyncio.sleep(0)
        closing = asyncio.create_task(opened.close())
        await asyncio.sleep(0)
        went_on.set()
        await asyncio.gather(opening, closing)
        open_store(partition_path(tmp_path, 0)).close()  # nobody else has it open

    went_on = threading.Event()
    monkeypatch.setattr(backups, "open_store", slowly)
    asyncio.run(run())


def test_large_events_that_wait_pause_before_their_number_does() -> None:
    """Of a megabyte each, fewer wait for a source that is behind; they are counted again by a store that is opened."""
    store: Any = MemoryStore({})
    settings = StreamSettings(partitions=1)
    partition = Partition(store, 0, settings)
    partition.handle(SourceTopic.ACTIONS, [Record(0, wire(action("u", "a", 1_000)))])
    large = wire({"user_id": "u", "name": "n", "value": "v", "ts": 5_000, "note": "x" * 1_000_000})
    lag = dict.fromkeys(SourceTopic, 7).get
    for offset in range(40):
        one = partitions.AssignedPartition(partition, store)
        one.unproven.clear()
        assert (SourceTopic.ATTRIBUTES in one.ahead(20_000, lag)) == (offset > 33)
        partition.handle(SourceTopic.ATTRIBUTES, [Record(offset, large)])
    assert Partition(store, 0, settings).waiting_bytes == partition.waiting_bytes > 40_000_000
