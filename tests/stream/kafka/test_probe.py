"""What is said of brokers that let nobody in."""

import socket

import pytest

from stream.config import KafkaSettings
from stream.kafka.connection import Kafka
from stream.kafka.probe import hint


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_a_broker_that_hangs_is_not_said_to_speak_another_protocol(protocol: str) -> None:
    """It takes connections, since the system does that for it, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        kafka = Kafka(f"127.0.0.1:{port}", KafkaSettings.model_validate({"security.protocol": protocol}))
        said = hint(kafka, "127.0.0.1", port, 0.1)
    assert said.startswith(f" 127.0.0.1:{port} takes connections and answers nothing: see whether that broker hangs")
