"""ACLs on a real node for tests."""

from stream.kafka import clients
from stream.kafka.connection import Kafka

from kafka.admin import (  # isort: skip  # after stream, which silences its warning on import
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)


def grant(kafka: Kafka, user: str, kind: str, name: str, *operations: str, prefixed: bool = False) -> None:
    """Let a user do operations on the topic or group of a name, or on all whose names begin so."""
    pattern = ACLResourcePatternType.PREFIXED if prefixed else ACLResourcePatternType.LITERAL
    resource = ResourcePattern(ResourceType[kind.upper()], name, pattern)
    wanted = [
        ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, resource) for operation in operations
    ]
    with clients.admin_client(kafka, 10) as admin:
        assert not admin.create_acls(wanted)["failed"]
