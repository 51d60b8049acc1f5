"""One real Kafka node: ready when it says so, on loopback alone, its messages kept, its process never left behind."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stream.config import StreamSettings
from stream.errors import BrokerError
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics, list_topics
from stream.local_broker.node import Broker

from kafka import KafkaProducer  # isort: skip  # after stream, which silences its warning on import

pytestmark = pytest.mark.broker
SETTINGS = StreamSettings(partitions=1)
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running node, started again for the next test if one has ended it."""
    broker = Broker(tmp_path_factory.mktemp("node") / "data")
    broker.start()
    yield broker
    broker.stop()


def wait_until(happened: Callable[[], bool]) -> None:
    """Poll until it has happened, and fail if that takes a minute."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def produce(bootstrap: str, messages: int) -> None:
    """Write messages that Kafka has acknowledged."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    for future in [producer.send("impressions", b"{}", key=b"u") for _ in range(messages)]:
        future.get(timeout=PATIENCE_S)
    producer.close()


def messages_in(bootstrap: str) -> int:
    state = list_topics(Kafka(bootstrap), SETTINGS)["impressions"]
    assert state is not None
    return state.messages


def test_nothing_listens_beyond_loopback(node: Broker) -> None:
    """Both listeners, for clients and for the controller, are on 127.0.0.1."""
    listeners = [c.laddr for c in psutil.Process(node.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listeners} == {"127.0.0.1"}
    assert node.port in {address.port for address in listeners}
    assert len(listeners) == 2


def test_messages_survive_a_kill(node: Broker) -> None:
    """After kill -9 of Kafka the death is told, and a new start on the same port has every acknowledged message."""
    bootstrap = node.start()  # runs already
    create_topics(Kafka(bootstrap), SETTINGS)
    produce(bootstrap, 100)
    os.kill(node.pid, signal.SIGKILL)
    with pytest.raises(
        BrokerError, match=rf"on {bootstrap} \(pid \d+\) has ended by itself with status -9; its messages"
    ):
        node.wait()
    assert node.pid == 0
    assert node.start() == bootstrap
    assert messages_in(bootstrap) == 100


def test_a_used_port_is_refused(node: Broker, tmp_path: Path) -> None:
    """The sentence names the port, for clients and for the controller alike, and nothing is started."""
    with pytest.raises(
        BrokerError, match=rf"port, {node.port} on 127.0.0.1, cannot be used \(Address already in use\).*--port"
    ):
        Broker(tmp_path / "a", node.port).start()
    with pytest.raises(BrokerError, match=f"port for its controller, {node.port} on 127.0.0.1, cannot be used"):
        Broker(tmp_path / "b", controller_port=node.port).start()


def test_a_directory_in_use_is_refused(node: Broker) -> None:
    """A second node on the same directory is refused and told the process id of the first, which goes on."""
    with pytest.raises(
        BrokerError, match=rf"{node.data_dir} is in use by another running Kafka node \(pid {node.pid}\)"
    ):
        Broker(node.data_dir).start()
    assert psutil.pid_exists(node.pid)


def test_data_that_kafka_refuses_are_told(node: Broker, tmp_path: Path) -> None:
    """When Kafka itself ends while it starts, its last complaint is in the sentence, and nothing is left running."""
    copy = shutil.copytree(node.data_dir, tmp_path / "copy")
    properties = copy / "logs" / "meta.properties"
    properties.write_text(properties.read_text().replace("version=1", "version=99"))
    broker = Broker(copy)
    with pytest.raises(BrokerError, match=r"^Kafka did not start: .*(meta.properties|version).*kafka.log says more"):
        broker.start()
    assert broker.pid == 0


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that several foreground nodes use, one after the other."""
    return tmp_path_factory.mktemp("foreground") / "data"


def in_the_foreground(data_dir: Path) -> tuple[subprocess.Popen[str], str, int]:
    """Run what `hstu broker` runs; give its process, its bootstrap address and Kafka's process id when it is ready."""
    program = "import sys, pathlib, stream.local_broker.node as b; b.serve_broker(pathlib.Path(sys.argv[1]), 0)"
    process = subprocess.Popen([sys.executable, "-c", program, data_dir], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    line = process.stdout.readline()
    ready = re.fullmatch(rf"Kafka [\d.]+ is ready on (127.0.0.1:\d+) \(data in {data_dir}, pid (\d+)\)\n", line)
    assert ready, line
    return process, ready[1], int(ready[2])


@pytest.mark.parametrize(
    "stop", [signal.SIGTERM, *(pytest.param(other, marks=pytest.mark.slow) for other in (signal.SIGINT, signal.SIGHUP))]
)
def test_a_signal_stops_the_foreground_node(data_dir: Path, stop: signal.Signals) -> None:
    """SIGTERM, Ctrl-C and a closed terminal end Kafka in an orderly way: code 0, no process left, messages kept."""
    process, bootstrap, pid = in_the_foreground(data_dir)
    created = create_topics(Kafka(bootstrap), SETTINGS)["impressions"] == "created"
    before = 0 if created else messages_in(bootstrap)
    produce(bootstrap, 10)
    assert messages_in(bootstrap) == before + 10
    process.send_signal(stop)
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, rest) == (0, "Stopping Kafka\n")
    assert not psutil.pid_exists(pid)


def test_kafka_and_the_process_that_started_it_end_together(data_dir: Path) -> None:
    """Kill -9 of the foreground process leaves no Kafka behind, and the directory can be used again at once.

    SIGTERM to Kafka's own process is a clean end of the foreground process.
    """
    process, _, pid = in_the_foreground(data_dir)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    again, _, again_pid = in_the_foreground(data_dir)
    wait_until(lambda: not psutil.pid_exists(pid))
    os.kill(again_pid, signal.SIGTERM)
    again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0


def test_a_port_that_is_bound_without_a_listener_is_refused(tmp_path: Path) -> None:
    """A port may be taken although nothing answers on it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(BrokerError, match="Address already in use"):
            Broker(tmp_path, other.getsockname()[1]).start()


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True])
def test_a_node_that_hangs_holds_up_no_worker_that_ends(node: Broker, tmp_path: Path, busy: bool) -> None:
    """It waits for Kafka for a while and ends: its stores are closed, and no thread keeps it alive.

    Nor do records on their way, which would be tried for ever, nor what Faust stops one after the other.
    """
    node.start()
    create_topics(Kafka(node.bootstrap), SETTINGS)
    code, log = "import stream.transport as t, sim.main; t._STOP_S = 2.0; sim.main.main()", tmp_path / "worker.log"
    settings = {"BOOTSTRAP": node.bootstrap, "DATA_DIR": str(tmp_path / "data"), "STREAM__PARTITIONS": "1"}
    environment = os.environ | {f"HSTU_{name}": value for name, value in settings.items()}
    with log.open("w") as file:
        worker = subprocess.Popen([sys.executable, "-c", code, "worker"], env=environment, stderr=file)
    try:
        wait_until(lambda: "Partition 0 is ours" in log.read_text())
        producer = KafkaProducer(bootstrap_servers=node.bootstrap, linger_ms=0)
        for number in range(400 if busy else 0):
            producer.send("actions", b"no event", partition=0)
            if number == 200:
                os.kill(node.pid, signal.SIGSTOP)
            time.sleep(0.01)
        os.kill(node.pid, signal.SIGSTOP)
        worker.terminate()
        assert worker.wait(20) == 0, log.read_text()
    finally:
        worker.kill()
        os.kill(node.pid, signal.SIGCONT)
        producer.close(5)
    assert "has ended; its partitions go to others when Kafka misses it" in log.read_text()
    assert "Traceback" not in log.read_text()
