"""What a user is told whose ACLs do not suffice, on a real Kafka with an authorizer: each that is missing, by name."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from stream.config import StreamSettings
from stream.errors import BrokerError
from stream.join.partition import Partition
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.groups import committed_offsets
from stream.kafka.permissions import check_permissions
from stream.kafka.topics import check_new_topics, create_topics, topic_name, workers_group
from stream.local_broker.node import Broker
from stream.local_broker.secured import Security, add_user
from stream.operations import host_checks
from stream.operations.dead_letters import Wanted, replay_letters
from stream.operations.doctor import examine
from stream.operations.findings import Finding, Level
from stream.operations.forget import forget_user
from stream.rescale.rescale import Rescale
from stream.schema.dead_letters import DeadLetter, Reason
from stream.schema.topics import ALL, EVENTS, ITEMS, SourceTopic
from stream.store.rocksdb import open_store, partition_path
from tests.secured import grant

pytestmark = [pytest.mark.broker, pytest.mark.timeout(200)]
SETTINGS = StreamSettings(topic_prefix="a-", partitions=1)
NAMES = [topic_name(SETTINGS, topic) for topic in ALL]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A node with users and ACLs, and the topics."""
    broker = Broker(tmp_path_factory.mktemp("secured") / "node", security=Security("ann"))
    broker.start()
    create_topics(broker.kafka, SETTINGS)
    yield broker
    broker.stop()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory with the store of the only partition, which has read nothing."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    partition = Partition(open_store(partition_path(folder, 0)), 0, SETTINGS)
    partition.handle(SourceTopic.ACTIONS, [])
    partition.close()
    return folder


def user(node: Broker, name: str) -> Kafka:
    """Return how a new user connects."""
    add_user(node.security.as_itself(node.bootstrap, node.data_dir), name, f"{name}-pw")
    given = {"sasl_username": name, "sasl_password": SecretStr(f"{name}-pw"), "sasl_password_file": ""}
    return Kafka(node.bootstrap, node.kafka.security.model_copy(update=given))


def wrong(kafka: Kafka, data_dir: Path, settings: StreamSettings = SETTINGS) -> dict[str, Finding]:
    """Return what doctor does not like, but for this machine's disk."""
    found = examine(kafka.bootstrap, kafka.security, settings, data_dir)
    return {each.what: each for each in found if each.level is not Level.OK and each.what not in ("disk", "versions")}


def topics_of_doctor(node: Broker) -> list[str]:
    with clients.admin_client(node.kafka, 10) as admin:
        return [name for name in admin.list_topics() if "hstu-doctor" in name]


def test_doctor_names_what_it_may_not_do(node: Broker, data_dir: Path) -> None:
    """The operation, the topic or the group; with the ACLs of docs/kafka.md nothing is missing."""
    kafka = user(node, "bob")
    says = {what: finding.says for what, finding in wrong(kafka, data_dir).items()}
    assert "DESCRIBE on the topic a-actions" in says["topics"]
    assert "READ on the topic a-actions" in says["keys"]
    assert "READ on the topic a-actions" in says["stores"]
    assert "READ on the topic a-dead-letters" in says["dead-letters"]
    for name in NAMES:
        assert f"DESCRIBE_CONFIGS on the topic {name}" in says["configuration"]
        grant(node.kafka, "bob", "topic", name, "READ", "DESCRIBE", "DESCRIBE_CONFIGS")
    assert "DESCRIBE on the group a-hstu-workers" in says["left stores"]
    assert all(f"{operation} on the topic a-hstu-doctor-" in says["clock"] for operation in ("CREATE", "WRITE"))
    grant(node.kafka, "bob", "group", workers_group(SETTINGS), "DESCRIBE")
    grant(node.kafka, "bob", "topic", "a-hstu-doctor-", "CREATE", "WRITE", "DELETE", prefixed=True)
    assert wrong(kafka, data_dir) == {}


def test_the_acls_of_one_user_of_everything(node: Broker, data_dir: Path) -> None:
    """Those that docs/kafka.md writes down for a prefix: topics are made, read and written, and doctor misses none."""
    page = (Path(__file__).parents[3] / "docs" / "kafka.md").read_text()
    settings, kafka = SETTINGS.model_copy(update={"topic_prefix": "live-"}), user(node, "hal")
    for command in re.findall(r"^kafka-acls\.sh (.+?)$", page.replace("\\\n", ""), re.MULTILINE):
        assert "--resource-pattern-type prefixed" in command
        ((kind, name),) = re.findall(r"--(topic|group) (\S+)", command)
        operations = re.findall(r"--operation (\S+)", command)
        grant(node.kafka, "hal", kind, name, *(_in_capitals(each) for each in operations), prefixed=True)
    create_topics(kafka, settings)
    everything = [topic_name(settings, topic) for topic in ALL]
    check_permissions(kafka, reads=everything, writes=everything, group=workers_group(settings))
    check_permissions(kafka, group="live-hstu-train-live")
    assert forget_user(kafka, settings, "u", 5000) == 1
    assert wrong(kafka, data_dir, settings) == {}


def _in_capitals(operation: str) -> str:
    """Return DESCRIBE_CONFIGS of DescribeConfigs."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()


def test_doctor_leaves_no_topic_that_it_may_not_delete(
    node: Broker, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DELETE is asked for before the topic is made; where it cannot be deleted all the same, it is named."""
    kafka = user(node, "cat")
    for name in NAMES:
        grant(node.kafka, "cat", "topic", name, "READ", "DESCRIBE", "DESCRIBE_CONFIGS")
    grant(node.kafka, "cat", "group", workers_group(SETTINGS), "DESCRIBE")
    grant(node.kafka, "cat", "topic", "a-hstu-doctor-", "CREATE", "WRITE", prefixed=True)
    found = wrong(kafka, data_dir)
    assert found.keys() == {"clock"}
    assert "it needs DELETE on the topic a-hstu-doctor-" in found["clock"].says
    assert topics_of_doctor(node) == []
    monkeypatch.setattr(host_checks, "check_permissions", lambda *_, **__: None)
    says = wrong(kafka, data_dir)["clock"].says
    (left,) = topics_of_doctor(node)
    assert "The topic is still there, since it could not be deleted" in says
    assert f"It was about {left}" in says
    with clients.admin_client(node.kafka, 10) as admin:
        admin.delete_topics([left])


def test_a_refusal_names_its_group(node: Broker) -> None:
    """Also where the client asks for the group's coordinator first."""
    sentence = "refused: this user may not read as, or look at, the consumer group a-hstu-workers "
    with pytest.raises(BrokerError, match=sentence):
        committed_offsets(user(node, "eve"), "a-hstu-workers")


def test_dead_letters_are_sent_back_by_who_may_do_all_of_it(node: Broker) -> None:
    """What is missing is named before anything is sent."""
    settings = SETTINGS.model_copy(update={"topic_prefix": "f-"})
    create_topics(node.kafka, settings)
    letter = DeadLetter(Reason.NOT_JSON, "It is not.", "f-actions", 0, 0, b"u", b"{")
    with closing(clients.producer(node.kafka)) as producer:
        producer.send("f-dead-letters", letter.value, key=letter.key, headers=list(letter.headers())).get()
    kafka, wanted = user(node, "fay"), Wanted(reasons=["not-json"])
    grant(node.kafka, "fay", "topic", "f-dead-letters", "READ")
    with pytest.raises(BrokerError) as refused:
        replay_letters(kafka, settings, wanted, dry_run=False)
    for needed in ("READ on the topic f-actions", "WRITE on the topic f-actions", "WRITE on the topic f-dead-letters"):
        assert needed in str(refused.value)
    grant(node.kafka, "fay", "topic", "f-actions", "READ")
    assert replay_letters(kafka, settings, wanted, dry_run=True).sent == {("not-json", "f-actions"): 1}
    grant(node.kafka, "fay", "topic", "f-", "WRITE", prefixed=True)
    assert replay_letters(kafka, settings, wanted, dry_run=False).sent == {("not-json", "f-actions"): 1}


def test_a_dry_run_of_a_rescale_looks_at_acls_of_topics_to_come(node: Broker, data_dir: Path) -> None:
    """It prints the plan, and lists all that the run would need; nothing is made."""
    kafka = user(node, "dan")
    for topic in (*EVENTS, ITEMS):
        grant(node.kafka, "dan", "topic", topic_name(SETTINGS, topic), "READ")
    said: list[str] = []
    work = Rescale(kafka, SETTINGS, data_dir, 2, "b-")
    with pytest.raises(BrokerError, match="by which the user 'dan' may work") as refused:
        work.look(said.append)
    assert len(said) == 1
    for needed in ("READ on the topic b-items", "WRITE on the topic b-actions", "CREATE on the topic b-dead-letters"):
        assert needed in str(refused.value)
    grant(node.kafka, "dan", "topic", "b-", "CREATE", "READ", "WRITE", prefixed=True)
    work.look(said.append)
    assert len(check_new_topics(kafka, SETTINGS.model_copy(update={"topic_prefix": "b-"}))) == len(ALL)
    grant(node.kafka, "dan", "topic", "c-", "READ", "WRITE", prefixed=True)
    grant(node.kafka, "dan", "cluster", "kafka-cluster", "CREATE")  # lets a user make any topic
    Rescale(kafka, SETTINGS, data_dir, 2, "c-").look(said.append)
    assert len(said) == 3
