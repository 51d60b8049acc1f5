"""Consumer groups: how far one has read, and who else reads as one that a process should have for itself."""

import time
from typing import Any, Final

from stream.kafka import clients
from stream.kafka.connection import Kafka

_TIMEOUT_S: Final = 30.0
_LOOK_S: Final = 0.5
_NO_COORDINATOR: Final = 15  # COORDINATOR_NOT_AVAILABLE
_MOVING: Final = (14, 16)  # COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR: it is made, or moves
_MOVES_S: Final = 10.0


def committed_offsets(kafka: Kafka, group: str) -> dict[tuple[str, int], int]:
    """Return the offsets that a group has committed, by topic and partition; none before Kafka has any group.

    Raises:
        BrokerError: Kafka does not answer, or refuses.
    """
    end = time.monotonic() + _MOVES_S
    with clients.admin_client(kafka, _TIMEOUT_S) as admin:
        while True:
            try:
                return {place: committed.offset for place, committed in commits(admin, group).items()}
            except clients.BrokerResponseError as error:
                if error.errno not in _MOVING or time.monotonic() > end:
                    raise
            time.sleep(_LOOK_S)


def commits(admin: Any, group: str) -> dict[tuple[str, int], Any]:
    """Return what a group has committed, offset and metadata, by topic and partition; none before there is any group.

    Raises:
        KafkaError: Kafka does not answer, or refuses.
    """
    try:
        found = admin.list_group_offsets({group: None})[group]
    except clients.BrokerResponseError as error:
        if error.errno != _NO_COORDINATOR:
            raise
        return {}
    return {(place.topic, place.partition): committed for place, committed in found.items()}


def other_member(kafka: Kafka, group: str, instance_id: str, wait_s: float) -> str:
    """Return where another member of a group is, empty if there is none within `wait_s`.

    Kafka keeps a member that was killed until its session has timed out.

    Args:
        kafka: The cluster.
        group: The group.
        instance_id: Of this process, and of those before it.
        wait_s: How long others are given to leave.

    Raises:
        BrokerError: No Kafka answers.
    """
    end = time.monotonic() + wait_s
    with clients.admin_client(kafka, _TIMEOUT_S) as admin:
        while True:
            try:
                members = admin.describe_groups([group])[group]["members"]
            except clients.KafkaError:  # no coordinator yet, or no leave to ask: the consumer will hear of it
                return ""
            others = [member for member in members if member["group_instance_id"] != instance_id]
            if not others or time.monotonic() > end:
                return str(others[0]["client_host"]).strip("/") if others else ""
            time.sleep(_LOOK_S)
