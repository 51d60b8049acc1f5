"""`items` of a system that gets more partitions, on a real Kafka: what comes while it asks or runs is not lost."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from stream.config import StreamSettings
from stream.errors import BrokerError, StoreError
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.rescale.rescale import Plan
from stream.schema.topics import ITEMS, ITEMS_HEARTBEAT_KEY
from tests.kafka_logs import fill, read
from tests.stream.rescale.workers import HALF_MS, Workers, fill_items, more
from tests.wire import REPLAYED, wire
from tests.worker_process import make_events, send


def item(bootstrap: str, settings: StreamSettings, name: str, *, withdrawn: bool = False) -> None:
    """Write one record of `items`, as a producer does that has not been stopped."""
    value = None if withdrawn else wire({"item_id": name, "title": name})
    asyncio.run(fill(bootstrap, settings.topic_prefix + ITEMS, [(0, name.encode(), value, 0)]))


def copied(bootstrap: str, settings: StreamSettings) -> dict[str, bytes | None]:
    """Return the items of new topics, each once."""
    logs = asyncio.run(read(bootstrap, settings.topic_prefix + ITEMS, settings.partitions))
    records = [record for log in logs for record in log]
    found = {record.key.decode(): record.value for record in records}
    assert len(found) == len(records)
    return found


def begun(bootstrap: str, old: StreamSettings, data_dir: Path) -> Workers:
    """Return a system that has come to the end of its log, with six items."""
    asyncio.run(send(bootstrap, old, make_events(20), end=False, beat_ms=HALF_MS))
    asyncio.run(fill_items(bootstrap, old))
    workers = Workers(bootstrap, old, data_dir)
    workers.work()
    return workers


def at_copy(then: Callable[[], None]) -> Callable[[str], None]:
    """Return what to give as `say`, so that something happens right after the copy."""
    return lambda line: then() if line.startswith("items") else None


def test_items_that_come_while_it_asks_are_copied(bootstrap: str, old: StreamSettings, tmp_path: Path) -> None:
    """The answer may take minutes: new items and withdrawals of that time are in the new topic."""
    workers, new = begun(bootstrap, old, tmp_path), more(old)

    def agreed(plan: Plan) -> bool:
        assert plan.items == 6
        item(bootstrap, old, "late-1")
        item(bootstrap, old, "i0", withdrawn=True)
        return True

    assert workers.work_of(new).run(agreed, print)
    found = copied(bootstrap, new)
    assert (len(found), "late-1" in found, found["i0"]) == (7, True, None)


def test_what_was_aborted_is_no_record(bootstrap: str, old: StreamSettings, tmp_path: Path) -> None:
    """Neither of the catalogue nor of a source, whose log ends in it: workers and trainers do not read it."""
    workers, new = begun(bootstrap, old, tmp_path), more(old)
    taken_back = [(0, b"i0", wire({"item_id": "i0", "title": "aborted"}), 0), (0, b"i2", None, 0), (0, b"no", b"{}", 0)]
    for topic in (ITEMS, "actions"):
        asyncio.run(fill(bootstrap, old.topic_prefix + topic, taken_back, transactions=1, abort=True))
    assert workers.rescale(new)
    found = copied(bootstrap, new)
    assert found.keys() == {f"i{n}" for n in range(6)}
    assert b"aborted" not in (found["i0"] or b"")
    assert found["i2"]


@pytest.mark.parametrize("topic", [ITEMS, "actions"])
def test_what_was_aborted_in_a_new_topic_is_no_copy(
    topic: str, bootstrap: str, old: StreamSettings, tmp_path: Path
) -> None:
    """It takes offsets, and stands for no record that was written before: the topic is not empty."""
    workers, new = begun(bootstrap, old, tmp_path), more(old)
    create_topics(Kafka(bootstrap), new)
    asyncio.run(fill(bootstrap, new.topic_prefix + topic, [(0, b"i", b"{}", 0)], transactions=1, abort=True))
    for _ in range(2):
        with pytest.raises(BrokerError, match=f"The topic {new.topic_prefix}{topic} is not empty"):
            workers.rescale(new)


@pytest.mark.parametrize("topic", [ITEMS, "actions"])
def test_an_open_transaction_stops_it(topic: str, bootstrap: str, old: StreamSettings, tmp_path: Path) -> None:
    """Readers see nothing behind its beginning: what others have committed there would be in no copy."""
    workers, name = begun(bootstrap, old, tmp_path), old.topic_prefix + topic

    async def rescale() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="hangs")
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(name, b"{}", key=b"i9", partition=0)
        await fill(bootstrap, name, [(0, b"i0", wire({"item_id": "i0", "title": "behind"}), 0)])
        with pytest.raises(BrokerError, match=rf"{name}\[0\] has a transaction that is open from offset \d+ on"):
            await asyncio.to_thread(workers.rescale, more(old))
        await producer.abort_transaction()
        await producer.stop()

    asyncio.run(rescale())


def test_an_open_transaction_in_a_new_topic_stops_it(bootstrap: str, old: StreamSettings, tmp_path: Path) -> None:
    """Somebody writes there already: the topic and the transaction are named, nothing is written behind it."""
    workers, new = begun(bootstrap, old, tmp_path), more(old)
    name = new.topic_prefix + "actions"
    create_topics(Kafka(bootstrap), new)

    async def rescale() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="early")
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(name, b"{}", key=b"u", partition=0)
        for _ in range(2):
            with pytest.raises(BrokerError, match=rf"{name}\[0\] has a transaction that is open from offset 0 on"):
                await asyncio.to_thread(workers.rescale, new)
        await producer.abort_transaction()
        await producer.stop()

    asyncio.run(rescale())
    assert [len(log) for log in asyncio.run(read(bootstrap, name, new.partitions))] == [1, 0, 0]


def test_items_that_come_while_it_runs_stop_it(bootstrap: str, old: StreamSettings, tmp_path: Path) -> None:
    """With a sentence, and no copy of a user is left; heartbeats do not, and once more it goes on with the item."""
    workers, new = begun(bootstrap, old, tmp_path), more(old)
    with pytest.raises(StoreError, match=r"items\[0\] has records from offset \d+ on that came after.*stop the prod"):
        workers.rescale(new, at_copy(lambda: item(bootstrap, old, "late-1")))
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"store"}
    beat = [(0, ITEMS_HEARTBEAT_KEY, wire({"watermark": HALF_MS}), 0)]
    assert workers.rescale(
        new, at_copy(lambda: asyncio.run(fill(bootstrap, f"{old.topic_prefix}{ITEMS}", beat, headers=REPLAYED)))
    )
    assert copied(bootstrap, new).keys() == {"i0", "i1", "i2", "i3", "i4", "i5", "late-1"}


def test_a_copy_that_does_not_do_any_more_is_seen(bootstrap: str, old: StreamSettings, tmp_path: Path) -> None:
    """An item that was corrected within the copy, under the time that it had, as well as one that is withdrawn."""
    workers = begun(bootstrap, old, tmp_path)
    with pytest.raises(StoreError, match="came after"):
        workers.rescale(more(old), at_copy(lambda: item(bootstrap, old, "i4", withdrawn=True)))
    with pytest.raises(BrokerError, match=r"items is not empty.*another --topic-prefix"):
        workers.rescale(more(old))
    assert workers.rescale(more(old, 4))
    assert copied(bootstrap, more(old, 4))["i4"] is None
