"""The clients of kafka-python, and the border to that library, whose exceptions become sentences here.

An admin client that fails to connect would leave a thread and sockets behind, so `_connect` cleans up.
"""

import logging
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from stream.errors import BrokerError
from stream.kafka.connection import Kafka, addresses
from stream.kafka.probe import hint, lets_in
from stream.kafka.reasons import reason
from stream.kafka.record_batches import tolerant

_POLL_S: Final = 0.05
_ATTEMPT_S: Final = 5.0  # a first answer takes milliseconds; a node that is just starting may drop the request

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python reads its schemas by an old function
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import (
        ConfigResource,
        ConfigResourceType,
        KafkaAdminClient,
        NewTopic,
        UserScramCredentialUpsertion,
    )
    from kafka.consumer import fetcher
    from kafka.errors import (
        BrokerResponseError,
        InvalidRecordError,
        KafkaError,
        KafkaTimeoutError,
        MessageSizeTooLargeError,
        TopicAlreadyExistsError,
        TopicAuthorizationFailedError,
    )

fetcher.MemoryRecords = tolerant(fetcher.MemoryRecords)

RECORD_REFUSED: Final = (InvalidRecordError, MessageSizeTooLargeError)  # the next record may still be accepted

__all__ = [
    "RECORD_REFUSED",
    "BrokerResponseError",
    "ConfigResource",
    "ConfigResourceType",
    "KafkaError",
    "KafkaTimeoutError",
    "NewTopic",
    "TopicAlreadyExistsError",
    "TopicAuthorizationFailedError",
    "TopicPartition",
    "UserScramCredentialUpsertion",
    "admin_client",
    "cluster_id",
    "is_listening",
    "offsets_client",
    "producer",
    "reason",
    "refusals",
]


class _Quiet:
    """Keeps the clients of all threads from logging each failed attempt; the error at the end says it once."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._levels: dict[logging.Logger, int] = {}

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._levels = {logger: logger.level for logger in map(logging.getLogger, ("kafka", "aiokafka"))}
            for logger in self._levels:
                logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            for logger, level in self._levels.items() if not self._inside else ():
                logger.setLevel(level)


_QUIET: Final = _Quiet()


@contextmanager
def admin_client(kafka: Kafka, timeout_s: float) -> Iterator[Any]:
    """Yield a connected KafkaAdminClient, closed afterwards.

    Raises:
        BrokerError: No Kafka answered in that time, or it refused us, or what was done with the client.
    """
    deadline = time.monotonic() + timeout_s
    servers = addresses(kafka.bootstrap)
    with _QUIET:
        client = None
        while client is None and time.monotonic() < deadline:
            if any(_answers(kafka, *server) for server in servers):  # a failed attempt costs more than a look
                client = _connect(kafka, min(_ATTEMPT_S, deadline - time.monotonic()))
            if client is None:
                time.sleep(_POLL_S)
        if client is None:
            raise BrokerError(
                f"No Kafka answered at {kafka} within {timeout_s:g} s; start one by hstu broker, "
                f"or correct --bootstrap or HSTU_BOOTSTRAP.{_hint(kafka)}"
            )
        try:
            with refusals(kafka):
                yield client
        finally:
            client.close()


@contextmanager
def offsets_client(kafka: Kafka, *, committed: bool = False) -> Iterator[Any]:
    """Yield a KafkaConsumer without a group, to ask for offsets; use it only after an admin client got an answer.

    Args:
        kafka: The cluster.
        committed: Read as workers and trainers do: no records of transactions that were aborted, and none behind the
            beginning of one that is open, where a log then ends.
    """
    isolation = "read_committed" if committed else "read_uncommitted"
    with _QUIET, refusals(kafka):
        client = KafkaConsumer(**kafka.client_options(), isolation_level=isolation)
        try:
            yield client
        finally:
            client.close()


def producer(kafka: Kafka, **options: Any) -> Any:
    """Return a KafkaProducer with these options, for a Kafka that has just answered an admin client.

    Raises:
        KafkaError: No Kafka answers.
    """
    return KafkaProducer(**kafka.client_options(), **options)


@contextmanager
def refusals(kafka: Kafka) -> Iterator[None]:
    """Turn an error of Kafka, or of its client, in the block into a BrokerError."""
    try:
        yield
    except BrokerResponseError as error:
        raise BrokerError(f"Kafka at {kafka} refused: {reason(error)}; its log says more.") from error
    except KafkaError as error:
        raise BrokerError(f"Kafka at {kafka} did not answer as it should: {reason(error)}; try again.") from error


def cluster_id(kafka: Kafka, timeout_s: float) -> str | None:
    """Return the id of the cluster that answers, None while none of its brokers takes requests."""
    with admin_client(kafka, timeout_s) as client:
        described = client.describe_cluster()
    brokers = [broker for broker in described["brokers"] if not broker.get("is_fenced", False)]
    return str(described["cluster_id"]) if brokers else None


def is_listening(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Return whether anything accepts connections there."""
    with suppress(OSError), socket.create_connection((host, port), timeout=timeout_s):
        return True
    return False


def _answers(kafka: Kafka, host: str, port: int) -> bool:
    """Return whether an attempt may succeed there.

    Raises:
        BrokerError: A broker refuses our TLS or SASL.
    """
    plain = not (kafka.encrypted or kafka.authenticated)
    return is_listening(host, port) and (plain or lets_in(kafka, host, port, _ATTEMPT_S))


def _hint(kafka: Kafka) -> str:
    servers = [server for server in addresses(kafka.bootstrap) if is_listening(*server, timeout_s=0.2)]
    return hint(kafka, *servers[0]) if servers else ""


def _connect(kafka: Kafka, timeout_s: float) -> Any:
    """Return a client; where none connects, clean up and return None."""
    timeout_ms = max(1, int(timeout_s * 1000))
    known = KafkaAdminClient.DEFAULT_CONFIG
    name = "bootstrap_timeout_ms" if "bootstrap_timeout_ms" in known else "api_version_auto_timeout_ms"  # 3.x, 2.x
    made = []

    def remembered(**configs: Any) -> Any:
        made.append(known["kafka_client"](**configs))
        return made[-1]

    try:
        return KafkaAdminClient(
            **kafka.client_options(),
            kafka_client=remembered,
            reconnect_backoff_max_ms=500,
            **{name: timeout_ms},
        )
    except (KafkaError, OSError):
        for client in made:
            client.close()
        return None
