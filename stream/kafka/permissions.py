"""Whether the cluster's ACLs let a client do its work, asked before it begins: clients would retry, or stop late."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from stream.errors import BrokerError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.reasons import is_denied

_TIMEOUT_S: Final = 10.0


def check_permissions(
    kafka: Kafka,
    *,
    reads: Iterable[str] = (),
    writes: Iterable[str] = (),
    others: Iterable[tuple[str, str]] = (),
    group: str = "",
    of_group: str = "READ",
) -> None:
    """Check that this client may do operations on topics, and on a consumer group; names are those in Kafka.

    Do nothing where clients neither authenticate nor speak TLS, since the cluster cannot tell them apart.

    Args:
        kafka: The cluster.
        reads: Topics to read.
        writes: Topics to write.
        others: More operations, each with its topic; CREATE is wanted where the topic does not exist.
        group: The group; empty for none.
        of_group: What is done with it.

    Raises:
        BrokerError: ACLs are missing; the sentence lists all of them. Or no Kafka answers.
    """
    if not (kafka.authenticated or kafka.encrypted):
        return
    wanted = [*((name, "READ") for name in reads), *((name, "WRITE") for name in writes)]
    wanted += [(name, operation) for operation, name in others]
    with clients.admin_client(kafka, _TIMEOUT_S) as admin:
        lacking = list(_lacking(admin, wanted))
        if group and not _may(admin, group, of_group):
            lacking.append(f"{of_group} on the group {group}")
    if lacking:
        user = f"the user {kafka.security.sasl_username!r}" if kafka.authenticated else "this client's certificate"
        raise BrokerError(
            f"Kafka at {kafka} has no ACLs by which {user} may work: it needs {', '.join(lacking)}; have them granted "
            "(docs/kafka.md lists all)."
        )


def _lacking(admin: Any, wanted: list[tuple[str, str]]) -> Iterator[str]:
    if not wanted:
        return
    topics = {topic["name"]: topic for topic in admin.describe_topics(sorted({name for name, _ in wanted}))}
    for name, operation in wanted:
        allowed, code = topics[name]["authorized_operations"], topics[name]["error_code"]
        denied = code == clients.TopicAuthorizationFailedError.errno
        if operation == "CREATE":  # an ACL on the cluster gives it as well, and is not said here
            denied, allowed = code != 0 and not _may_create(admin, name), None
        if denied or (allowed and operation not in allowed):  # some say none of a topic that does not exist
            yield f"{operation} on the topic {name}"


def _may_create(admin: Any, name: str) -> bool:
    try:
        admin.create_topics([clients.NewTopic(name, 1, 1)], validate_only=True)
    except clients.KafkaError as error:
        return not is_denied(error)  # it is there, or Kafka's policy wants another: whoever makes it hears of it
    return True


def _may(admin: Any, group: str, operation: str) -> bool:
    try:
        allowed = admin.describe_groups([group])[group]["authorized_operations"]
    except clients.KafkaError as error:
        return not is_denied(error)  # another error is for the consumer, which retries
    return not allowed or operation in allowed
