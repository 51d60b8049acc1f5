"""Fixtures of tests that consume from the real Kafka."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream.transport import TopicPartition
from tests.kafka import KafkaForTests
from tests.kafka_logs import fill, make_topics
from tests.stream.consuming import Notebook, Run, records


@pytest.fixture
def bootstrap(kafka: KafkaForTests) -> str:
    """Where the Kafka of the tests is."""
    return kafka.bootstrap


@pytest.fixture
def topic(bootstrap: str, topic_prefix: str) -> str:
    """A topic of two partitions, 300 records in each."""
    name = f"{topic_prefix}log"
    asyncio.run(make_topics(bootstrap, [name]))
    asyncio.run(fill(bootstrap, name, records(300)))
    return name


@pytest.fixture
def consume(bootstrap: str, tmp_path: Path) -> Callable[..., Notebook]:
    """Consume a topic until a number of records has been handled."""

    def run(topic: str, count: int, wanted: dict[TopicPartition, int] | None = None, **options: Any) -> Notebook:
        async def consumed() -> Notebook:
            notebook = Notebook(wanted)
            handled = Run(bootstrap, topic, tmp_path, notebook, **options)
            await handled.until(lambda: notebook.count >= count, f"{count} records of {topic}")
            return notebook

        return asyncio.run(consumed())

    return run
