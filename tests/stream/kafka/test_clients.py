"""How clients of Kafka are made."""

import re

import pytest

from stream.errors import BrokerError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from tests.test_architecture import MODULES


def test_one_module_says_how_clients_find_kafka() -> None:
    """TLS and SASL have one place; every other module takes its options from there."""
    found = {name for name, path in MODULES.items() if re.search(r"sasl_plain_", path.read_text())}
    assert found == {"stream.kafka.connection", "stream.transport"}  # the latter hands them to Faust


def test_only_what_kafka_answers_is_a_refusal() -> None:
    """What its client gives up is none, and no error is named twice."""
    kafka = Kafka("a:1")
    with pytest.raises(BrokerError) as late, clients.refusals(kafka):
        raise clients.KafkaTimeoutError("Batch expired")
    assert str(late.value) == "Kafka at a:1 did not answer as it should: KafkaTimeoutError: Batch expired; try again."
    with pytest.raises(BrokerError) as refused, clients.refusals(kafka):
        raise clients.RECORD_REFUSED[0]
    assert str(refused.value).startswith("Kafka at a:1 refused: InvalidRecordError: This record has failed")
