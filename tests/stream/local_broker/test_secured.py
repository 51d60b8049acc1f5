"""A real node with TLS, a user and ACLs: who is let in, and what is said to those who are not."""

import itertools
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.config import KafkaSettings, StreamSettings
from stream.errors import BrokerError
from stream.kafka import clients
from stream.kafka.bootstrap import check_reachable
from stream.kafka.connection import Kafka
from stream.kafka.permissions import check_permissions
from stream.kafka.topics import create_topics, list_topics, verify_topics
from stream.local_broker.node import Broker
from stream.local_broker.secured import Security, add_user
from stream.operations.dead_letters import Wanted, find_letters, last_letters, replay_letters, survey_letters
from stream.operations.doctor import examine
from stream.operations.findings import Level
from stream.operations.forget import forget_user
from stream.peers import owners
from stream.schema.dead_letters import DeadLetter, Reason
from stream.schema.topics import ALL, DEAD_LETTERS
from tests.secured import grant

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[3]
SETTINGS = StreamSettings(partitions=1)
USER = "ann.o-1_x"
PASSWORD = r'a"b\c $1'


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A node with TLS whose user has a password of quotes and backslashes; it has the topics."""
    broker = Broker(tmp_path_factory.mktemp("secured") / "node", security=Security(USER, PASSWORD, tls=True))
    broker.start()
    create_topics(broker.kafka, SETTINGS)
    yield broker
    broker.stop()


def with_keys(kafka: Kafka, bootstrap: str = "", **keys: str) -> Kafka:
    """Return the cluster with other keys of table [kafka], and perhaps another address."""
    given = {key: value for key, value in kafka.security if key.replace("_", ".") in kafka.security.given()} | keys
    return Kafka(bootstrap or kafka.bootstrap, KafkaSettings.model_validate(given))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_the_user_is_let_in_by_each_mechanism(node: Broker, mechanism: str) -> None:
    """And may do everything."""
    kafka = with_keys(node.kafka, sasl_mechanism=mechanism)
    assert create_topics(kafka, SETTINGS)["examples"] == "exists"
    assert list_topics(kafka, SETTINGS)["examples"]
    check_permissions(kafka, reads=["examples"], writes=["examples"], group="any")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"sasl_password": "x"}, "does not accept the user 'ann.o-1_x' with this password by SCRAM-SHA-512; correct"),
        ({"sasl_username": "bob", "sasl_mechanism": "PLAIN"}, "does not accept the user 'bob' .* by PLAIN; correct"),
        ({"ssl_ca_location": ""}, "is not signed by a CA that is trusted here .*; set ssl.ca.location"),
    ],
)
def test_who_is_refused_is_told_at_once(node: Broker, keys: dict[str, str], sentence: str) -> None:
    """Not after the time in which a Kafka may answer; and the password is not in the sentence."""
    with pytest.raises(BrokerError, match=sentence) as refused:
        check_reachable(with_keys(node.kafka, **keys), 60)
    assert PASSWORD not in str(refused.value)


def test_a_certificate_of_another_host_is_refused_unless_any_will_do(node: Broker) -> None:
    """127.1 is an address of 127.0.0.1 that no certificate names."""
    elsewhere = with_keys(node.kafka, f"127.1:{node.port}")
    with pytest.raises(BrokerError, match=r"certificate of 127\.1:\d+ does not name 127\.1; connect by a name that"):
        check_reachable(elsewhere)
    check_reachable(with_keys(elsewhere, ssl_endpoint_identification_algorithm="none"))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({}, "speaks TLS: set security.protocol to SSL or SASL_SSL"),
        (
            {"security.protocol": "SSL"},
            "as a broker does that wants a user: set security.protocol to SASL_SSL",
        ),
    ],
)
def test_another_protocol_is_named(node: Broker, keys: dict[str, str], sentence: str) -> None:
    """Such a connection only breaks off; what the broker may want is found out afterwards."""
    trust = {"ssl.ca.location": node.kafka.security.ssl_ca_location} if keys else {}
    with pytest.raises(BrokerError, match=rf"^No Kafka answered at .* within 1 s.*{sentence}"):
        check_reachable(Kafka(node.bootstrap, KafkaSettings.model_validate(keys | trust)), 1)


def test_a_node_without_security_is_named(kafka: Any) -> None:
    """TLS or a user where there is none."""
    trust = {"security.protocol": "SSL"}
    with pytest.raises(BrokerError, match=r"does not speak TLS, but security.protocol is SSL"):
        check_reachable(Kafka(kafka.bootstrap, KafkaSettings.model_validate(trust)), 0.5)
    user = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "a",
        "sasl.password": "b",
    }
    with pytest.raises(BrokerError, match=r"takes no users, but security.protocol is SASL_PLAINTEXT"):
        check_reachable(Kafka(kafka.bootstrap, KafkaSettings.model_validate(user)), 0.5)


def test_missing_acls_are_all_named(node: Broker) -> None:
    """Before anything is read; with them the same check passes."""
    add_user(node.security.as_itself(node.bootstrap, node.data_dir), "bob", "pw")
    bob = with_keys(node.kafka, sasl_username="bob", sasl_password="pw")
    needed: dict[str, Any] = {"reads": ["actions"], "writes": ["examples"], "group": "hstu-workers"}
    lacking = "READ on the topic actions, WRITE on the topic examples, READ on the group hstu-workers"
    with pytest.raises(BrokerError, match=f"no ACLs by which the user 'bob' may work: it needs {lacking}; have them"):
        check_permissions(bob, **needed)
    with pytest.raises(BrokerError, match=r"this user may not do that with the topic actions \(an ACL is missing"):
        verify_topics(bob, SETTINGS, ["actions"])
    grant(node.kafka, "bob", "topic", "new-", "DESCRIBE", prefixed=True)
    with pytest.raises(BrokerError, match="lets this user make no topic new-impressions: CREATE on it is missing"):
        create_topics(bob, SETTINGS.model_copy(update={"topic_prefix": "new-"}))
    grant(node.kafka, "bob", "topic", "actions", "READ")
    grant(node.kafka, "bob", "topic", "examples", "DESCRIBE")
    grant(node.kafka, "bob", "group", "hstu-workers", "READ")
    with pytest.raises(BrokerError, match="it needs WRITE on the topic examples; have them granted"):
        check_permissions(bob, **needed)
    grant(node.kafka, "bob", "topic", "exam", "WRITE", prefixed=True)
    check_permissions(bob, **needed)
    verify_topics(bob, SETTINGS, ["actions", "examples"])


def test_whose_owners_kafka_hides_is_warned_once(
    node: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the group, then of a topic, whose offsets Kafka leaves out without a word; not once they are granted."""
    monkeypatch.setattr(owners, "_LOOK_S", 0.1)
    add_user(node.security.as_itself(node.bootstrap, node.data_dir), "eve", "pw")
    followed = owners.Owners(with_keys(node.kafka, sasl_username="eve", sasl_password="pw"), SETTINGS, "hstu-workers")
    _until(lambda: "this user may not read as, or look at, the consumer group hstu-workers" in followed.problem)
    for topic in ("actions", "attributes"):
        grant(node.kafka, "eve", "topic", topic, "DESCRIBE")
    grant(node.kafka, "eve", "group", "hstu-workers", "DESCRIBE")
    _until(lambda: "may not do that with the topic impressions" in followed.problem)
    grant(node.kafka, "eve", "topic", "impressions", "DESCRIBE")
    _until(lambda: not followed.problem)
    followed.close()
    warned = [record.getMessage() for record in caplog.records if "ACL" in record.getMessage()]
    assert len(warned) == 2, warned
    assert all(text.startswith("Which worker of hstu-workers has which partition cannot be read: ") for text in warned)


def _until(done: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def user_of(node: Broker, name: str, *acls: tuple[str, *tuple[str, ...]]) -> Kafka:
    """Return how a new user connects who may do these operations on these topics, a name with * being a prefix."""
    add_user(node.security.as_itself(node.bootstrap, node.data_dir), name, "pw")
    for topic, *operations in acls:
        grant(node.kafka, name, "topic", topic.rstrip("*"), *operations, prefixed=topic.endswith("*"))
    return with_keys(node.kafka, sasl_username=name, sasl_password="pw")


LETTER = DeadLetter(Reason.LATE, "why", "actions", 0, 0, b"k", b"{}")


@pytest.fixture(scope="module")
def one_letter(node: Broker) -> None:
    """Refuse the one record of `actions`."""
    producer = clients.producer(node.kafka)
    producer.send("actions", LETTER.value, key=LETTER.key).get(10)
    producer.send(DEAD_LETTERS, LETTER.value, key=LETTER.key, headers=LETTER.headers()).get(10)
    producer.close()


def _create(kafka: Kafka) -> None:
    create_topics(kafka, SETTINGS.model_copy(update={"topic_prefix": "new-"}))


def _read_letters(kafka: Kafka) -> None:
    assert survey_letters(kafka, SETTINGS, Wanted(), 1).counts == {("late", "actions"): 1}
    assert find_letters(kafka, SETTINGS, "actions/0/0")[0].value == b"{}"
    assert len(last_letters(kafka, SETTINGS, 3)) == 1


def _replay_letters(kafka: Kafka) -> None:
    assert replay_letters(kafka, SETTINGS, Wanted(), dry_run=False).sent == {("late", "actions"): 1}


ROWS: dict[str, tuple[list[tuple[str, ...]], Callable[[Kafka], object]]] = {
    "topics-create": ([(f"new-{topic}", "CREATE", "DESCRIBE") for topic in ALL], _create),
    "topics-list": ([(topic, "DESCRIBE") for topic in ALL], lambda kafka: list_topics(kafka, SETTINGS)),
    "dead-letters": ([(DEAD_LETTERS, "READ")], _read_letters),
    "dead-letters-replay": ([(topic, "READ", "WRITE") for topic in (DEAD_LETTERS, "actions")], _replay_letters),
    "forget": ([("attributes", "READ", "WRITE")], lambda kafka: forget_user(kafka, SETTINGS, "ada", 1)),
}


@pytest.mark.usefixtures("one_letter")
@pytest.mark.parametrize("verb", ROWS)
def test_the_documented_acls_are_enough(verb: str, node: Broker) -> None:
    """Each verb does its work by the ACLs of its line in docs/kafka.md, and no others."""
    acls, run = ROWS[verb]
    run(user_of(node, verb, *acls))


def test_doctor_looks_at_all_that_it_may_see(node: Broker, tmp_path: Path) -> None:
    """By the documented ACLs at everything; without some each check fails by itself, and names what it lacks."""
    tmp_path.chmod(0o700)
    some = user_of(node, "some", *((topic, "READ") for topic in ALL if topic != "items"), ("hstu-doctor-*", "CREATE"))
    found = list(examine(node.bootstrap, some.security, SETTINGS, tmp_path))
    failed = {finding.what: finding.says for finding in found if finding.level is Level.FAIL}
    assert set(failed) == {"topics", "configuration", "keys", "clock"}
    for what, named in (("topics", "topic items"), ("configuration", "topic items"), ("clock", "hstu-doctor-")):
        assert "has no ACLs by which the user 'some' may work" in failed[what]
        assert named in failed[what]
    assert {"Kafka", "dead-letters"} <= {finding.what for finding in found}
    blind = user_of(node, "blind", *((topic, "READ") for topic in ALL))
    found = list(examine(node.bootstrap, blind.security, SETTINGS, tmp_path))
    (configuration,) = [finding for finding in found if finding.what in ("configuration", "retention")]
    assert (configuration.level, "needs DESCRIBE_CONFIGS on" in configuration.says) == (Level.FAIL, True)
    described = ((topic, "READ", "DESCRIBE", "DESCRIBE_CONFIGS") for topic in ALL)
    doctor = user_of(node, "doctor", *described, ("hstu-doctor-*", "CREATE", "WRITE", "DELETE"))
    assert not [
        finding
        for finding in examine(node.bootstrap, doctor.security, SETTINGS, tmp_path)
        if finding.level is Level.FAIL and finding.what != "disk"
    ]


def test_secrets_are_in_files_of_the_owner_alone(node: Broker) -> None:
    """Those that hold a password or a key; and no argument of the node's process names one."""
    files = [node.data_dir / "server.properties", *(node.data_dir / "tls").iterdir()]
    open_to_others = {path.name for path in files if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)}
    assert open_to_others == {"ca.pem"}
    assert b"PRIVATE KEY" not in (node.data_dir / "tls" / "ca.pem").read_bytes()
    arguments = Path(f"/proc/{node.pid}/cmdline").read_bytes().decode()
    assert node.security.password not in arguments
    assert (node.data_dir / "tls" / "server.password").read_text() not in arguments


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_prints_how_to_connect_and_makes_a_password(tmp_path: Path) -> None:
    """What it prints is a hstu.toml that connects, after a second start as well; the password is in a file."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HSTU_")}
    run: dict[str, Any] = {"cwd": tmp_path, "env": environment | {"PYTHONPATH": str(ROOT)}, "text": True}
    hstu = [sys.executable, "-m", "sim.main"]
    for _ in range(2):
        (tmp_path / "hstu.toml").unlink(missing_ok=True)
        command = [*hstu, "broker", "--port", "0", "--sasl-user", "eve", "--data-dir", "node"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, **run) as process:
            assert process.stdout
            lines = list(itertools.takewhile(lambda line: "security.protocol" not in line, process.stdout))
            settings = "".join(lines[3:]) + 'security.protocol = "SASL_PLAINTEXT"\n'
            file = tmp_path / "node" / "secrets" / "eve.password"
            assert f'"{file}"' in settings
            assert file.stat().st_mode & 0o777 == 0o600
            assert file.read_text() not in settings + Path(f"/proc/{process.pid}/cmdline").read_text()
            (tmp_path / "hstu.toml").write_text(settings)
            done = subprocess.run([*hstu, "topics", "create"], capture_output=True, check=False, **run)
            assert done.returncode == 0, done.stderr
            process.terminate()


@pytest.mark.parametrize("user", ["a b", "../x", "hstu-broker"])
def test_a_user_that_cannot_be_named_so_is_refused(user: str) -> None:
    """Its name is that of a file and stands in Kafka's configuration."""
    with pytest.raises(BrokerError, match="cannot be a user here; give one of at most 64 letters"):
        Security(user)
