"""Checks before a command connects: Kafka is the one that `--bootstrap` or HSTU_BOOTSTRAP names, and no other."""

import ipaddress
import logging
from typing import Final

from stream.config import KafkaSettings
from stream.errors import BrokerError
from stream.kafka import clients
from stream.kafka.connection import Kafka, addresses

_log: Final = logging.getLogger("hstu.kafka")


def require_kafka(bootstrap: str, security: KafkaSettings) -> Kafka:
    """Return the cluster of these settings, or raise an error that says how to get one.

    Raises:
        BrokerError: None is named, its address is not HOST:PORT[,HOST:PORT…], or table [kafka] contradicts itself.
    """
    if not bootstrap:
        raise BrokerError(
            "No Kafka is named; give --bootstrap HOST:PORT or set HSTU_BOOTSTRAP. "
            "Where there is none, hstu broker starts one, on 127.0.0.1:9092 if not told otherwise."
        )
    kafka = Kafka(bootstrap, security)
    far = [host for host, _ in addresses(bootstrap) if not _is_loopback(host)]
    if security.sasl_mechanism == "PLAIN" and not kafka.encrypted and far:
        _log.warning(
            "sasl.mechanism PLAIN without TLS sends the password to %s in plain text; "
            "use security.protocol SASL_SSL, or a SCRAM mechanism.",
            far[0],
        )
    return kafka


def check_reachable(kafka: Kafka, timeout_s: float = 10.0) -> None:
    """Check that a Kafka answers, and takes us for whom we say we are.

    Raises:
        BrokerError: None did within that time, or it refused us.
    """
    with clients.admin_client(kafka, timeout_s):
        pass


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
