"""The Kafka of the tests: the one that HSTU_BOOTSTRAP names, else one in Docker where an engine answers, else a node
of our own."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stream.kafka.bootstrap import check_reachable
from stream.kafka.connection import Kafka
from stream.local_broker.jars import VERSION
from stream.local_broker.node import HOST, free_port, running_broker

_ENGINE_S: Final = 1.0
_CONTAINER_S: Final = 60.0
_IMAGE: Final = f"apache/kafka:{VERSION}"
_SOCKETS: Final = (Path("/var/run/docker.sock"), Path.home() / ".docker" / "run" / "docker.sock")


@dataclass(frozen=True, slots=True)
class KafkaForTests:
    """A Kafka, and a line that says which one it is."""

    bootstrap: str
    description: str


@contextmanager
def kafka_for_tests(directory: Path) -> Iterator[KafkaForTests]:
    """Yield a Kafka while the block runs; a node of our own has its data in the directory, which is new or empty.

    Raises:
        BrokerError: HSTU_BOOTSTRAP names one that does not answer, or none can be started.
    """
    given = os.environ.get("HSTU_BOOTSTRAP")
    with ExitStack() as stack:
        if given:
            check_reachable(Kafka(given))
            yield KafkaForTests(given, f"the one at {given} (HSTU_BOOTSTRAP)")
        elif docker_answers():
            bootstrap = stack.enter_context(_container())
            yield KafkaForTests(bootstrap, f"Apache Kafka {VERSION} on {bootstrap} (Docker)")
        else:
            bootstrap = stack.enter_context(running_broker(directory))
            yield KafkaForTests(bootstrap, f"Apache Kafka {VERSION} on {bootstrap} (pip)")


def docker_answers() -> bool:
    """Return, within two seconds, whether a Docker engine answers here and testcontainers can use it."""
    if "DOCKER_HOST" not in os.environ and not any(socket.exists() for socket in _SOCKETS):
        return False
    if importlib.util.find_spec("testcontainers") is None:
        return False
    docker: Any = importlib.import_module("docker")  # comes with testcontainers
    try:
        client = docker.from_env(timeout=_ENGINE_S)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (docker.errors.DockerException, OSError):  # requests' exceptions are OSErrors
        return False


@contextmanager
def _container() -> Iterator[str]:
    """Run Kafka in a container; its port is the same inside and outside, since Kafka itself tells it to clients."""
    from testcontainers.core.container import DockerContainer

    port = free_port()
    container: Any = DockerContainer(_IMAGE).with_bind_ports(port, port).with_envs(**_container_settings(port))
    with container:
        check_reachable(Kafka(f"{HOST}:{port}"), _CONTAINER_S)
        yield f"{HOST}:{port}"


def _container_settings(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{HOST}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_LOG_MESSAGE_TIMESTAMP_AFTER_MAX_MS": "9223372036854775807",
    }
