"""What most of these tests begin with: topics of their own, and an empty data directory."""

from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from tests.kafka import KafkaForTests
from tests.topics import own_topics

PARTITIONS = 2


@pytest.fixture
def settings(kafka: KafkaForTests) -> StreamSettings:
    made = own_topics(PARTITIONS)
    create_topics(Kafka(kafka.bootstrap), made)
    return made


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder
