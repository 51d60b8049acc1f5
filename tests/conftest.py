"""Fixtures for all tests: one real Kafka for the whole run, started when the first test asks for it."""

import uuid
from collections.abc import Iterator

import pytest

from tests.kafka import KafkaForTests, kafka_for_tests

_used = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[KafkaForTests]:
    """A Kafka: HSTU_BOOTSTRAP's, else one in Docker, else a node of our own. All tests share it: use topic_prefix."""
    with kafka_for_tests(tmp_path_factory.mktemp("kafka") / "node") as running:
        pytestconfig.stash[_used] = running.description
        yield running


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test has, for topics and groups on the shared Kafka."""
    return f"t{uuid.uuid4().hex[:12]}-"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `broker` what asks for a Kafka."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("broker")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say on which Kafka the tests ran."""
    if _used in config.stash:
        terminalreporter.write_line(f"Kafka: {config.stash[_used]}")
