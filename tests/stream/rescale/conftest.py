"""Fixtures of a system that is given more partitions."""

import pytest

from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from tests.topics import own_topics


@pytest.fixture
def old(bootstrap: str) -> StreamSettings:
    """Settings of two partitions, whose topics exist."""
    quick = {"lateness_s": 2, "action_window_s": 6, "gather_s": 2, "gather_targets": 3}
    settings = own_topics(2).model_copy(update=quick)
    create_topics(Kafka(bootstrap), settings)
    return settings
