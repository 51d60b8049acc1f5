"""Topics of one test on a Kafka that many tests share, and their content."""

from collections import defaultdict
from uuid import uuid4

from stream.config import StreamSettings
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import topic_name
from stream.schema.topics import EVENTS, ITEMS

Place = tuple[str, int]


def own_topics(partitions: int = 3) -> StreamSettings:
    """Return settings whose topics no other test has."""
    return StreamSettings(partitions=partitions, topic_prefix=f"t{uuid4().hex[:8]}-")


def written(bootstrap: str, settings: StreamSettings) -> dict[Place, list[tuple[bytes | None, bytes | None]]]:
    """Return key and value of every record of the input topics, in order, by topic (without prefix) and partition."""
    places = {
        clients.TopicPartition(topic_name(settings, topic), partition): (topic, partition)
        for topic in (*EVENTS, ITEMS)
        for partition in range(settings.partitions)
    }
    found: dict[Place, list[tuple[bytes | None, bytes | None]]] = defaultdict(list)
    with clients.offsets_client(Kafka(bootstrap)) as consumer:
        consumer.assign(list(places))
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(list(places))
        while any(consumer.position(place) < end for place, end in ends.items()):
            for place, records in consumer.poll(timeout_ms=500).items():
                found[places[place]] += [(record.key, record.value) for record in records]
    return found
