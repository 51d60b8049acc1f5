"""What `hstu doctor` examines in tests, and what it finds wrong."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import workers_group
from stream.operations.doctor import examine
from stream.operations.findings import Finding, Level
from stream.schema.topics import SourceTopic
from stream.store.rocksdb import open_store, partition_path
from tests.kafka_logs import fill


def wrong(kafka: Kafka, settings: StreamSettings, data_dir: Path) -> dict[str, Finding]:
    """Return what is not as it should be, but for this machine's disk."""
    found = {
        finding.what: finding
        for finding in examine(kafka.bootstrap, kafka.security, settings, data_dir)
        if finding.level is not Level.OK
    }
    found.pop("disk", None)
    return found


def send(kafka: Kafka, settings: StreamSettings, topic: str, *events: tuple[int, bytes | None, bytes]) -> None:
    asyncio.run(fill(kafka.bootstrap, settings.topic_prefix + topic, [(*event, 0) for event in events]))


def configure(kafka: Kafka, topic: str, **configs: str) -> None:
    with clients.admin_client(kafka, 10) as admin:
        named = {name.replace("_", "."): value for name, value in configs.items()}
        admin.alter_configs([clients.ConfigResource(clients.ConfigResourceType.TOPIC, topic, named)])


def has_read(log: Sequence[Any], settings: StreamSettings, data_dir: Path) -> None:
    """Make the store of partition 0 that has read these records of `actions`."""
    partition = Partition(open_store(partition_path(data_dir, 0)), 0, settings)
    partition.handle(SourceTopic.ACTIONS, log)
    partition.close()


def commit(kafka: Kafka, settings: StreamSettings, topic: str, offset: int) -> None:
    """Commit an offset of partition 0, as the workers' group does."""
    place = TopicPartition(settings.topic_prefix + topic, 0)
    with closing(KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=workers_group(settings))) as group:
        group.assign([place])
        group.commit({place: OffsetAndMetadata(offset, "", -1)})
