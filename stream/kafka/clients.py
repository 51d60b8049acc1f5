"""The border to kafka-python: an admin client, or a sentence within the given time. No exception of Kafka leaves it.

A client that fails to connect would leave a thread and sockets behind, hence the care with which one is made here.
"""

import logging
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from stream.errors import BrokerError

_POLL_S: Final = 0.05
_ATTEMPT_S: Final = 5.0  # a first answer takes milliseconds; a node that is just starting may swallow the question

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python reads its schemas by an old function
    from kafka import KafkaConsumer, TopicPartition
    from kafka.admin import KafkaAdminClient, NewTopic
    from kafka.errors import KafkaError, TopicAlreadyExistsError

__all__ = [
    "KafkaError",
    "NewTopic",
    "TopicAlreadyExistsError",
    "TopicPartition",
    "addresses",
    "admin_client",
    "cluster_id",
    "is_listening",
    "offsets_client",
    "reason",
    "refusals",
]


def addresses(bootstrap: str) -> list[tuple[str, int]]:
    """Split HOST:PORT[,HOST:PORT…].

    Raises:
        BrokerError: one is not of that form.
    """
    found = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise BrokerError(
                f"The bootstrap address {address.strip()!r} is not HOST:PORT; give for example 127.0.0.1:9092, "
                "and more of them separated by commas."
            )
        found.append((host.strip("[]"), int(port)))
    return found


@contextmanager
def admin_client(bootstrap: str, timeout_s: float) -> Iterator[Any]:
    """Give a connected KafkaAdminClient, closed afterwards.

    Raises:
        BrokerError: no Kafka answered in that time, or Kafka refused what was done with the client.
    """
    deadline = time.monotonic() + timeout_s
    servers = addresses(bootstrap)
    with _quiet():
        client = None
        while client is None and time.monotonic() < deadline:
            if any(is_listening(host, port) for host, port in servers):  # an attempt in vain costs more than a look
                client = _connect(bootstrap, min(_ATTEMPT_S, deadline - time.monotonic()))
            if client is None:
                time.sleep(_POLL_S)
        if client is None:
            raise BrokerError(
                f"No Kafka answered at {bootstrap} within {timeout_s:g} s; start one by hstu broker, "
                "or correct --bootstrap or HSTU_BOOTSTRAP."
            )
        try:
            with refusals(bootstrap):
                yield client
        finally:
            client.close()


@contextmanager
def offsets_client(bootstrap: str) -> Iterator[Any]:
    """Give a KafkaConsumer without a group, to ask for offsets; only where an admin client has got an answer before."""
    with _quiet(), refusals(bootstrap):
        client = KafkaConsumer(bootstrap_servers=bootstrap.split(","))
        try:
            yield client
        finally:
            client.close()


@contextmanager
def refusals(bootstrap: str) -> Iterator[None]:
    """Say in a sentence of our own what Kafka refused."""
    try:
        yield
    except KafkaError as error:
        raise BrokerError(f"Kafka at {bootstrap} refused: {reason(error)}; its log says more.") from error


def reason(error: KafkaError) -> str:
    """Give an error's name and what Kafka's protocol says about it, without the request's text."""
    said = getattr(error, "description", None) or str(error)
    return f"{type(error).__name__}: {said[:300].rstrip('.')}"


def cluster_id(bootstrap: str, timeout_s: float) -> str | None:
    """Give the id of the cluster that answers, None while none of its brokers takes requests."""
    with admin_client(bootstrap, timeout_s) as client:
        described = client.describe_cluster()
    brokers = [broker for broker in described["brokers"] if not broker.get("is_fenced", False)]
    return str(described["cluster_id"]) if brokers else None


def is_listening(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Say whether anything accepts connections there."""
    with suppress(OSError), socket.create_connection((host, port), timeout=timeout_s):
        return True
    return False


def _connect(bootstrap: str, timeout_s: float) -> Any:
    """Make a client, or clean up behind the attempt and give None."""
    timeout_ms = max(1, int(timeout_s * 1000))
    known = KafkaAdminClient.DEFAULT_CONFIG
    name = "bootstrap_timeout_ms" if "bootstrap_timeout_ms" in known else "api_version_auto_timeout_ms"  # 3.x, 2.x
    made = []

    def remembered(**configs: Any) -> Any:
        made.append(known["kafka_client"](**configs))
        return made[-1]

    try:
        return KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","),
            kafka_client=remembered,
            reconnect_backoff_max_ms=500,
            **{name: timeout_ms},
        )
    except (KafkaError, OSError):
        for client in made:
            client.close()
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep kafka-python from logging each failed attempt; the sentence at the end says it once."""
    logger = logging.getLogger("kafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
