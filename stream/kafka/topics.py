"""Create, check, count and list the topics in Kafka.

All of them have the same number of partitions: the worker of partition p of the events writes partition p of the
examples. `items` is compacted: only the last record of a key is kept, and a tombstone is never dropped, so that a
trainer that starts late still learns which items are withdrawn. Topics that producers write to carry the broker's time
(LogAppendTime): by it, and not by a client's clock, events are judged (stream/schema/record_time.py).
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stream.config import StreamSettings
from stream.errors import BrokerError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.reasons import is_denied
from stream.schema.topics import ALL, EVENTS, EXAMPLES, ITEMS

_CENTURY_MS: Final = 100 * 365 * 86_400_000  # Kafka adds it to its clock: its largest number would overflow there
EXAMPLE_BYTES: Final = 16 << 20  # of one example at most; Kafka's default is 1 MiB
_BROKER_TIME: Final = {"message.timestamp.type": "LogAppendTime"}
_CONFIGS: Final[Mapping[str, dict[str, str]]] = {
    **dict.fromkeys(EVENTS, _BROKER_TIME),
    ITEMS: {"cleanup.policy": "compact", "delete.retention.ms": str(_CENTURY_MS), **_BROKER_TIME},
    EXAMPLES: {"max.message.bytes": str(EXAMPLE_BYTES)},
}
_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class TopicState:
    """What Kafka reports of a topic that exists."""

    partitions: int
    messages: int
    """End offsets minus first offsets, summed: after compaction or transactions there are fewer."""


def topic_name(settings: StreamSettings, topic: str) -> str:
    """Return a topic's name in Kafka."""
    return settings.topic_prefix + topic


def workers_group(settings: StreamSettings) -> str:
    """Return the name of the workers' consumer group."""
    return f"{settings.topic_prefix}hstu-workers"


def create_topics(kafka: Kafka, settings: StreamSettings, timeout_s: float = _TIMEOUT_S) -> dict[str, str]:
    """Create the topics that do not exist, and wait until they can be used; several processes may do this at once.

    Returns:
        By name in Kafka, "created" or "exists".

    Raises:
        BrokerError: No Kafka answers, it refuses, or a topic exists with another number of partitions.
    """
    names = {topic_name(settings, topic): topic for topic in ALL}
    with clients.admin_client(kafka, timeout_s) as admin:
        before = _partitions(admin, names)
        refuse_other_counts(before, settings)
        for name, topic in names.items():
            if name not in before:
                _create(admin, name, settings, dict(configs_of(topic)))
        deadline = time.monotonic() + timeout_s
        while (after := _partitions(admin, names)).keys() != names.keys():
            if time.monotonic() > deadline:
                raise BrokerError(f"Kafka at {kafka} made the topics, but their partitions have no leaders yet; retry.")
            time.sleep(_POLL_S)
    refuse_other_counts(after, settings)
    return {name: "exists" if name in before else "created" for name in names}


def check_new_topics(kafka: Kafka, settings: StreamSettings, timeout_s: float = _TIMEOUT_S) -> list[str]:
    """Check that Kafka would make those topics that do not exist; return their names, and make none.

    Raises:
        BrokerError: No Kafka answers, it would refuse, or a topic exists with another number of partitions.
    """
    names = {topic_name(settings, topic): topic for topic in ALL}
    with clients.admin_client(kafka, timeout_s) as admin:
        found = {name: len(leaders) for name, leaders in _leaders(admin, names).items()}
        refuse_other_counts(found, settings)
        missing = [name for name in names if name not in found]
        for name in missing:
            _create(admin, name, settings, dict(configs_of(names[name])), only_ask=True)
    return missing


def verify_topics(
    kafka: Kafka, settings: StreamSettings, needed: Iterable[str] = ALL, timeout_s: float = _TIMEOUT_S
) -> None:
    """Check that topics, given without the prefix, exist with the configured number of partitions.

    Partitions without a leader are waited for: a broker that comes back has none for a moment.

    Raises:
        BrokerError: No Kafka answers, or a topic is missing, differs or has no leader; the sentence names it.
    """
    names = [topic_name(settings, topic) for topic in needed]
    with clients.admin_client(kafka, timeout_s) as admin:
        deadline = time.monotonic() + timeout_s
        while (headless := _headless(found := _leaders(admin, names))) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    missing = [name for name in names if name not in found]
    if missing:
        raise BrokerError(f"Kafka at {kafka} lacks the topics {', '.join(missing)}; run hstu topics create.")
    if headless:
        raise BrokerError(
            f"Partitions of {', '.join(headless)} in Kafka at {kafka} have no leader, since their brokers are down or "
            "just coming back; run this again once they are up."
        )
    refuse_other_counts({name: len(leaders) for name, leaders in found.items()}, settings)


def list_topics(kafka: Kafka, settings: StreamSettings, timeout_s: float = _TIMEOUT_S) -> dict[str, TopicState | None]:
    """Return the state of each topic by its name in Kafka, None where it does not exist.

    Raises:
        BrokerError: No Kafka answers.
    """
    names = [topic_name(settings, topic) for topic in ALL]
    with clients.admin_client(kafka, timeout_s) as admin:
        counts = _partitions(admin, names)
    with clients.offsets_client(kafka) as client:
        return {
            name: TopicState(counts[name], _messages(client, name, counts[name])) if name in counts else None
            for name in names
        }


def count_partitions(kafka: Kafka, names: Iterable[str], timeout_s: float = _TIMEOUT_S) -> dict[str, int]:
    """Return how many partitions each topic has, by its name in Kafka; those that do not exist are left out.

    Raises:
        BrokerError: No Kafka answers.
    """
    with clients.admin_client(kafka, timeout_s) as admin:
        return {name: len(leaders) for name, leaders in _leaders(admin, names).items()}


def configs_of(topic: str) -> Mapping[str, str]:
    """Return the configuration that `create_topics` gives a topic, named without prefix."""
    return _CONFIGS.get(topic, {})


def describe_configs(
    kafka: Kafka, names: Iterable[str], timeout_s: float = _TIMEOUT_S
) -> dict[str, dict[str, str | None]]:
    """Return the whole configuration of each topic that exists, by its name in Kafka.

    Raises:
        BrokerError: No Kafka answers, or it does not let this user see one.
    """
    with clients.admin_client(kafka, timeout_s) as admin:
        asked = [clients.ConfigResource(clients.ConfigResourceType.TOPIC, name) for name in _leaders(admin, names)]
        found = admin.describe_configs(asked, config_filter="all").get("topic", {}) if asked else {}
        if denied := [name for name, configs in found.items() if not configs]:  # the client drops the error
            raise clients.TopicAuthorizationFailedError(denied)
    return {name: {key: config["value"] for key, config in configs.items()} for name, configs in found.items()}


def _partitions(admin: Any, names: Iterable[str]) -> dict[str, int]:
    """Count the partitions of those topics that exist with a leader for each partition."""
    return {name: len(leaders) for name, leaders in _leaders(admin, names).items() if min(leaders) >= 0}


def _headless(leaders: Mapping[str, list[int]]) -> list[str]:
    """Return the topics with a partition that has no leader."""
    return [name for name, found in leaders.items() if min(found) < 0]


def _leaders(admin: Any, names: Iterable[str]) -> dict[str, list[int]]:
    """Return the leader of each partition, -1 for none, of those topics that exist, in the order of the names.

    Raises:
        KafkaError: This user may not see some; it names all of them.
    """
    wanted, found, denied = list(names), {}, []
    for topic in admin.describe_topics(wanted):
        name = topic.get("name", topic.get("topic"))
        if topic["error_code"] == clients.TopicAuthorizationFailedError.errno:
            denied.append(name)
        found[name] = [partition.get("leader_id", partition.get("leader", -1)) for partition in topic["partitions"]]
    if denied:
        raise clients.TopicAuthorizationFailedError(denied)
    return {name: found[name] for name in wanted if found.get(name)}


def refuse_other_counts(counts: Mapping[str, int], settings: StreamSettings) -> None:
    """Check that topics have the configured number of partitions.

    Raises:
        BrokerError: One has another, or they differ; the sentence says what to do, by which nothing is deleted.
    """
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise BrokerError(
            f"All topics need the same number of partitions, but {found}. Kafka cannot take partitions back, and new "
            "ones move users away from their events: make topics under another stream.topic_prefix and data_dir, and "
            "copy the events there by their keys; nothing has to be deleted."
        )
    for name, count in counts.items():
        if count != settings.partitions:
            raise BrokerError(
                f"The topic {name} has {count} partitions, but stream.partitions says {settings.partitions}; set it to "
                f"{count} (HSTU_STREAM__PARTITIONS={count}) if they have always been that many; if they were raised, "
                "choose another stream.topic_prefix (docs/recovery.md)."
            )


def _create(
    admin: Any, name: str, settings: StreamSettings, configs: dict[str, str], *, only_ask: bool = False
) -> None:
    new = clients.NewTopic(name, settings.partitions, settings.replication, topic_configs=configs)
    try:
        admin.create_topics([new], validate_only=only_ask)
    except clients.TopicAlreadyExistsError:
        return  # another process was faster
    except clients.KafkaError as error:
        if is_denied(error):
            raise BrokerError(
                f"Kafka lets this user make no topic {name}: CREATE on it is missing (docs/kafka.md lists all ACLs); "
                "have it granted, or have the topics made by a user who has it."
            ) from error
        raise BrokerError(
            f"Kafka refused to make the topic {name} with {settings.partitions} partitions and {settings.replication} "
            f"replicas: {clients.reason(error)}; change stream.partitions, .replication or .topic_prefix."
        ) from error


def _messages(client: Any, name: str, partitions: int) -> int:
    of_topic = [clients.TopicPartition(name, partition) for partition in range(partitions)]
    first, last = client.beginning_offsets(of_topic), client.end_offsets(of_topic)
    return sum(last[partition] - first[partition] for partition in of_topic)
