"""`hstu forget`: the record that it writes erases the user in whichever partition they are."""

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaProducer

from stream.errors import HstuError
from stream.join.partition import Partition
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.operations.forget import forget_user
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import SourceTopic
from stream.store import layout
from tests.kafka import KafkaForTests
from tests.kafka_logs import fill, read
from tests.memory_store import MemoryStore
from tests.topics import own_topics
from tests.wire import REPLAYED, Record, action, wire


def test_the_record_erases_the_user_in_every_partition(kafka: KafkaForTests) -> None:
    """Also where murmur2 would not have put the user; each partition has the record once."""
    settings = own_topics(3).model_copy(update={"lateness_s": 0})
    create_topics(Kafka(kafka.bootstrap), settings)
    assert forget_user(Kafka(kafka.bootstrap), settings, "ü", 5000) == 3
    logs = asyncio.run(read(kafka.bootstrap, settings.topic_prefix + "attributes", 3))
    assert [len(log) for log in logs] == [1, 1, 1]
    for number, log in enumerate(logs):
        store = MemoryStore({})
        partition = Partition(store, number, settings)
        events = [wire(action("ü", "a", 1000)), wire(action("other", "a", 9000)), wire(action("other", "b", 9001))]
        partition.handle(SourceTopic.ACTIONS, [Record(offset, event) for offset, event in enumerate(events)])
        partition.handle(SourceTopic.ATTRIBUTES, [*log, Record(1, b'{"watermark": 9001}')])
        partition.handle(SourceTopic.IMPRESSIONS, [Record(0, b'{"watermark": 9001}')])
        assert [value for _, value in store.scan(layout.USER) if "ü".encode() in value] == []
        assert len(list(store.scan(layout.USER))) == 1


@pytest.mark.parametrize(
    ("user", "ts_ms", "why"),
    [
        ("", 5000, "user_id is empty"),
        ("ü" * 129, 5000, "more than 256 bytes"),
        ("u\udcff", 5000, "is not UTF-8"),
        ("u", -1, "outside"),
        ("u", int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000), "outside"),
        ("u", 4_000_000_000_000, "beyond what its Kafka timestamp allows.*300 s"),
    ],
)
def test_what_workers_would_refuse_is_not_sent(kafka: KafkaForTests, user: str, ts_ms: int, why: str) -> None:
    """It is a sentence, and says so before anybody believes that the user is erased."""
    settings = own_topics(1)
    create_topics(Kafka(kafka.bootstrap), settings)
    with pytest.raises(HstuError, match=why):
        forget_user(Kafka(kafka.bootstrap), settings, user, ts_ms)
    assert asyncio.run(read(kafka.bootstrap, settings.topic_prefix + "attributes", 1)) == [[]]


def test_the_longest_id_and_the_latest_time_are_sent(kafka: KafkaForTests) -> None:
    """Just inside each bound; without a bound on the future any time before 2200 is."""
    settings = own_topics(1)
    create_topics(Kafka(kafka.bootstrap), settings)
    soon = int(time.time() * 1000) + 290_000
    assert forget_user(Kafka(kafka.bootstrap), settings, "ü" * 128, soon) == 1
    unbounded = settings.model_copy(update={"future_s": 0})
    assert forget_user(Kafka(kafka.bootstrap), unbounded, "u", soon + 3_600_000) == 1


def test_what_would_be_late_in_a_partition_is_not_sent(kafka: KafkaForTests) -> None:
    """By the event time of its log, replayed or live; the sentence says which --until does, and that one does."""
    settings = own_topics(2)
    create_topics(Kafka(kafka.bootstrap), settings)
    topic = settings.topic_prefix + "attributes"
    beat, future = b'{"watermark": 1700000000500}', b'{"watermark": 4000000000000}'
    asyncio.run(fill(kafka.bootstrap, topic, [(1, None, beat, 0)], headers=REPLAYED))
    asyncio.run(fill(kafka.bootstrap, topic, [(1, None, future, 0), (0, None, b"not json", 0)]))  # which are refused
    late = r"in 1 of 2 partitions.*is at 2023-11-14 22:13:20.500, .*Give --until 2023-11-14T22:13:21 \(UTC\) or later"
    with pytest.raises(HstuError, match=late):
        forget_user(Kafka(kafka.bootstrap), settings, "u", 1700000000499 - 30_000)
    assert [len(log) for log in asyncio.run(read(kafka.bootstrap, topic, 2))] == [1, 2]
    assert forget_user(Kafka(kafka.bootstrap), settings, "u", 1700000000500 - 30_000) == 2
    assert forget_user(Kafka(kafka.bootstrap), settings, "u", int(time.time() * 1000)) == 2
    with pytest.raises(HstuError, match="in 2 of 2 partitions"):
        forget_user(Kafka(kafka.bootstrap), settings, "u", 1700000001000)


def test_what_is_late_behind_an_open_transaction_is_not_sent(kafka: KafkaForTests) -> None:
    """Workers read it once the transaction has ended; what was aborted does not count."""
    settings = own_topics(1)
    create_topics(Kafka(kafka.bootstrap), settings)
    topic = settings.topic_prefix + "attributes"
    early, beat, later = (b'{"watermark": 17000000%05d}' % at for at in (500, 50_500, 90_500))

    async def forget() -> int:
        await fill(kafka.bootstrap, topic, [(0, None, early, 0)], headers=REPLAYED)
        await fill(kafka.bootstrap, topic, [(0, None, later, 0)], headers=REPLAYED, transactions=1, abort=True)
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"open {topic}")
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"{}", key=b"u", partition=0)
        await fill(kafka.bootstrap, topic, [(0, None, beat, 0)], headers=REPLAYED)
        with pytest.raises(HstuError, match=r"in 1 of 1 partitions.*is at 2023-11-14 22:14:10.500"):
            await asyncio.to_thread(forget_user, Kafka(kafka.bootstrap), settings, "u", 1700000000500)
        await producer.abort_transaction()
        await producer.stop()
        return await asyncio.to_thread(forget_user, Kafka(kafka.bootstrap), settings, "u", 1700000050500)

    assert asyncio.run(forget()) == 1


def test_on_an_ended_log_nothing_is_sent(kafka: KafkaForTests) -> None:
    """Workers would refuse the record as late: the sentence says so, also where records have come after the end."""
    settings = own_topics(1)
    create_topics(Kafka(kafka.bootstrap), settings)
    end, late = json.dumps({"watermark": END_OF_TIME_MS}).encode(), wire({"user_id": "u", "name": "n"})
    topic = settings.topic_prefix + "attributes"
    asyncio.run(fill(kafka.bootstrap, topic, [(0, None, end, 0), (0, b"u", late, 0)], headers=REPLAYED))
    with pytest.raises(HstuError, match=r"a replay has ended the log of .*under another stream\.topic_prefix"):
        forget_user(Kafka(kafka.bootstrap), settings, "u", 5000)
    assert len(asyncio.run(read(kafka.bootstrap, topic, 1))[0]) == 2
    strict = settings.model_copy(update={"replays": False})  # no replay is believed, so nothing has ended
    assert forget_user(Kafka(kafka.bootstrap), strict, "u", 5000) == 1
