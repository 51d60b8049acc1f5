"""Which Kafka is used, and what is said where none answers."""

import socket
import threading
import time
from pathlib import Path

import pytest

from stream.config import KafkaSettings
from stream.errors import BrokerError
from stream.kafka.bootstrap import check_reachable, require_kafka
from stream.kafka.connection import Kafka, addresses
from tests.kafka import KafkaForTests, docker_answers, kafka_for_tests


def test_a_bootstrap_that_is_set_is_taken() -> None:
    """One or more addresses, IPv6 among them, go through as they are."""
    assert str(require_kafka("kafka:9092,[::1]:9093", KafkaSettings())) == "kafka:9092,[::1]:9093"
    assert addresses("kafka:9092, [::1]:9093") == [("kafka", 9092), ("::1", 9093)]


def test_without_a_bootstrap_the_sentence_says_how_to_get_a_kafka() -> None:
    """It names the flag, the variable, and the command that starts a node."""
    with pytest.raises(BrokerError, match=r"give --bootstrap HOST:PORT or set HSTU_BOOTSTRAP.*hstu broker starts one"):
        require_kafka("", KafkaSettings())


@pytest.mark.parametrize("setting", ["kafka", "kafka:", ":9092", "kafka:no", "kafka:0", "kafka:65536", "a:1,,b:2"])
def test_an_address_that_is_none_is_refused(setting: str) -> None:
    """The sentence shows the form that is wanted."""
    with pytest.raises(
        BrokerError, match=r"^The bootstrap address '.*' is not HOST:PORT; give for example 127.0.0.1:9092"
    ):
        require_kafka(setting, KafkaSettings())


def test_a_kafka_that_answers_is_reachable(kafka: KafkaForTests) -> None:
    """No news is good news; and a first address that is dead does no harm."""
    check_reachable(Kafka(kafka.bootstrap))
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        check_reachable(Kafka(f"127.0.0.1:{dead.getsockname()[1]},{kafka.bootstrap}"))


def test_where_nothing_listens_the_sentence_comes_in_time() -> None:
    """It names the address and the time waited, and says what to do."""
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{dead.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(
            BrokerError, match=rf"^No Kafka answered at {address} within 0.5 s; start one by hstu broker"
        ):
            check_reachable(Kafka(address), 0.5)
        assert 0.5 <= time.monotonic() - begin < 2.5


def test_where_something_else_listens_the_sentence_is_the_same_and_nothing_is_left_behind() -> None:
    """A port that accepts and never answers is no Kafka; the attempt leaves no thread."""
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BrokerError, match=rf"^No Kafka answered at {address} within 0.5 s"):
            check_reachable(Kafka(address), 0.5)
    assert threading.active_count() == threads


def test_a_host_that_does_not_exist_is_not_reachable() -> None:
    """Names are looked up within the time as well."""
    with pytest.raises(BrokerError, match=r"^No Kafka answered at nowhere.invalid:9092 within 0.2 s"):
        check_reachable(Kafka("nowhere.invalid:9092"), 0.2)


def test_whether_docker_is_there_is_known_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that accepts and never answers does not hold up the tests: two seconds at most."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.monotonic()
        assert not docker_answers()
        assert time.monotonic() - begin < 5  # two, and the import of its client on a busy machine


def test_tests_take_the_kafka_that_is_set(
    kafka: KafkaForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HSTU_BOOTSTRAP comes before Docker and a node of our own; nothing is started."""
    monkeypatch.setenv("HSTU_BOOTSTRAP", kafka.bootstrap)
    with kafka_for_tests(tmp_path / "unused") as given:
        assert given == KafkaForTests(kafka.bootstrap, f"the one at {kafka.bootstrap} (HSTU_BOOTSTRAP)")
    assert not (tmp_path / "unused").exists()
