"""How clients of Kafka are made."""

import re

from tests.test_architecture import MODULES


def test_one_module_says_how_clients_find_kafka() -> None:
    """TLS and SASL have one place; every other module takes its options from there."""
    found = {name for name, path in MODULES.items() if re.search(r"sasl_plain_", path.read_text())}
    assert found == {"stream.kafka.connection", "stream.transport"}  # the latter hands them to Faust
