"""A Kafka with TLS, SCRAM users and ACLs: the same digests as without, and each refusal a sentence."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sim.demo.processes import Child, stop_all
from stream.config import StreamSettings
from stream.kafka.topics import create_topics
from stream.local_broker.node import Broker
from stream.local_broker.secured import Security, add_user
from stream.schema.topics import ALL
from tests.e2e.test_one_digest import PARTITIONS, Run, until
from tests.secured import grant

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(400)]
ROWS: Final = 1_500
REPLAY: Final = ("replay", "--synthetic", "dirichlet", "--records", "1")
# docs/kafka.md: kind of resource, its name, operations.
ACLS: Final = {
    "replay": [("topic", name, "READ", "WRITE") for name in ("impressions", "actions", "attributes", "items")],
    "worker": [
        *(("topic", name, "READ") for name in ("impressions", "actions", "attributes", "examples")),
        *(("topic", name, "WRITE") for name in ALL),
        ("group", "hstu-workers", "READ"),
    ],
    "trainer": [
        *(("topic", name, "READ") for name in ("examples", "items")),
        ("group", "hstu-train-silu", "READ"),
    ],
    "stranger": [("topic", name, "DESCRIBE") for name in ALL],
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A secured node with the topics, and a user of each kind whose password is its name and -pw."""
    broker = Broker(tmp_path_factory.mktemp("secured") / "node", security=Security("ann", tls=True))
    broker.start()
    create_topics(broker.kafka, StreamSettings(partitions=PARTITIONS))
    for user, acls in ACLS.items():
        add_user(broker.security.as_itself(broker.bootstrap, broker.data_dir), user, f"{user}-pw")
        for kind, name, *operations in acls:
            grant(broker.kafka, user, kind, name, *operations)
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Write a log of clicks, and return how `hstu replay` is given it."""
    rng, path = random.Random(3), tmp_path_factory.mktemp("log") / "log.csv"
    rows = [f"user-{rng.randrange(40)},item-{rng.randrange(90)},{1_700_000_000 + 5 * i},click" for i in range(ROWS)]
    path.write_text("\n".join(["user,item,time,action", *rows, ""]))
    return (str(path), "--user", "user", "--item", "item", "--time", "time", "--action", "action")


class SecuredRun(Run):
    """Processes that connect as users of their own, by variables."""

    def __init__(self, directory: Path, node: Broker) -> None:
        super().__init__(directory, node.bootstrap)
        self.environment |= {
            "HSTU_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "HSTU_KAFKA__SASL_MECHANISM": "SCRAM-SHA-256",
            "HSTU_KAFKA__SSL_CA_LOCATION": node.kafka.security.ssl_ca_location,
        }

    def start_as(self, user: str, *arguments: str, password: str = "", **environment: str) -> Child:
        """Start a verb as a user; its password is in a file, as Docker and Kubernetes give secrets."""
        secret = self.directory / f"{user}-{len(self.children)}.secret"
        secret.write_text((password or f"{user}-pw") + "\n")
        variables = {"HSTU_KAFKA__SASL_USERNAME": user, "HSTU_KAFKA__SASL_PASSWORD_FILE": str(secret)}
        config = ["--config", str(self.config)]
        child = Child(
            f"{user}-{len(self.children)}",
            [*config, *arguments],
            self.directory / "logs",
            self.environment | variables | environment,
        )
        self.children.append(child)
        return child


def test_the_digests_are_those_without_security(node: Broker, source: tuple[str, ...], tmp_path: Path) -> None:
    """Replay, worker and trainer, each with no more than its own ACLs; and no log holds a password."""
    direct = Run(tmp_path / "direct")
    run = SecuredRun(tmp_path / "run", node)
    try:
        direct.do("direct", "replay", *source, "--direct")
        run.start_as("worker", "worker")
        trainer = run.start_as("trainer", "train", "--until-end", "--quiet")
        replay = run.start_as("replay", "replay", *source, "--no-create-topics")
        assert replay.wait(120) == 0, replay.last_words()
        assert trainer.wait(180) == 0, trainer.last_words()
        assert run.digests() == direct.digests()
    finally:
        assert stop_all(run.children) == []
    logs = "".join(child.log.read_text() for child in run.children)
    assert "-pw" not in logs


def test_a_password_that_is_changed_ends_a_worker_once_its_connection_is_lost(node: Broker, tmp_path: Path) -> None:
    """By the sentence of a wrong password, so that whatever restarts it gives it the new one."""
    run = SecuredRun(tmp_path / "run", node)
    itself = node.security.as_itself(node.bootstrap, node.data_dir)
    try:
        worker = run.start_as("worker", "worker")
        until(lambda: f"Partition {PARTITIONS - 1} is ours" in worker.log.read_text(), "the worker")
        add_user(itself, "worker", "another")
        node.stop()
        node.start()
        assert worker.wait(90) == 1
        assert "does not accept the user 'worker' with this password by SCRAM-SHA-256" in worker.last_words()
    finally:
        stop_all(run.children)
        add_user(itself, "worker", "worker-pw")


@pytest.mark.parametrize(
    ("verb", "lacking"),
    [
        (("worker",), "READ on the group hstu-workers"),
        (("train", "--quiet"), "READ on the group hstu-train-silu"),
        (REPLAY, "WRITE on the topic items"),
    ],
)
def test_a_user_without_acls_is_told_which(verb: tuple[str, ...], lacking: str, node: Broker, tmp_path: Path) -> None:
    """At once, in one line, with exit code 1; nothing is retried for ever."""
    run = SecuredRun(tmp_path / "run", node)
    child = run.start_as("stranger", *verb)
    assert child.wait(60) == 1
    assert child.last_words().startswith(
        f"hstu: Kafka at {node.bootstrap} has no ACLs by which the user 'stranger' may"
    )
    assert lacking in child.last_words()
    assert "Traceback" not in child.log.read_text()


@pytest.mark.parametrize("verb", [("worker",), ("train", "--quiet"), REPLAY, ("topics", "list")])
def test_a_wrong_password_and_a_wrong_ca_end_every_verb(verb: tuple[str, ...], node: Broker, tmp_path: Path) -> None:
    """Each by a sentence and exit code 1, long before the time in which a Kafka may answer."""
    run = SecuredRun(tmp_path / "run", node)
    refused = run.start_as("worker", *verb, password="guess")
    distrusted = run.start_as("worker", *verb, HSTU_KAFKA__SSL_CA_LOCATION="")
    assert (refused.wait(60), distrusted.wait(60)) == (1, 1)
    assert "does not accept the user 'worker' with this password by SCRAM-SHA-256; correct" in refused.last_words()
    assert "is not signed by a CA that is trusted here" in distrusted.last_words()
    logs = refused.log.read_text() + distrusted.log.read_text()
    assert "Traceback" not in logs
    assert "guess" not in logs
