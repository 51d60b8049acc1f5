"""`hstu forget`: the record that it writes erases the user in whichever partition they are."""

import asyncio

from stream.join.partition import Partition
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.operations.forget import forget_user
from stream.schema.topics import SourceTopic
from stream.store import layout
from tests.kafka import KafkaForTests
from tests.kafka_logs import read
from tests.memory_store import MemoryStore
from tests.topics import own_topics
from tests.wire import Record, action, wire


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
