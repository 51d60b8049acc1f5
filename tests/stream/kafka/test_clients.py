"""How clients of Kafka are made."""

import re

from stream.kafka.clients import connection, faust_connection
from tests.test_architecture import MODULES


def test_one_module_says_how_clients_find_kafka() -> None:
    """So that settings of TLS and SASL have one place; every other module takes them from there."""
    found = {name for name, path in MODULES.items() if re.search(r"bootstrap_servers|kafka://", path.read_text())}
    assert found == {"stream.kafka.clients"}


def test_several_servers_are_all_named() -> None:
    """In the form of kafka-python and aiokafka, and in Faust's."""
    assert connection("a:1,b:2") == {"bootstrap_servers": ["a:1", "b:2"]}
    assert faust_connection("a:1,b:2") == {"broker": ["kafka://a:1", "kafka://b:2"]}
