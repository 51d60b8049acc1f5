"""One Apache Kafka node in KRaft mode on 127.0.0.1, for laptops and tests: `hstu broker`, the demo, the test fixture.

Both of its listeners, for clients and for its own controller, are on the loopback interface; nothing is encrypted and
nobody authenticates, unless that is wanted (secured.py). The messages are in a named directory and survive a stop or a
kill of the node. Its Java process never outlives the process that started it (die_with_parent.py).
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stream.errors import BrokerError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.local_broker import die_with_parent
from stream.local_broker.data_directory import BrokerDirectory
from stream.local_broker.jars import find_kafka
from stream.local_broker.java import find_java
from stream.local_broker.secured import Security, settings_of

HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 9092
_FREE_PORTS: Final = range(20_000, 32_000)  # below the range that systems use for outgoing connections
_START_S: Final = 60.0
_STOP_S: Final = 20.0
_POLL_S: Final = 0.05
_JVM_FLAGS: Final = (
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.net.preferIPv4Stack=true",
    "-Dlog4j2.configurationFile=log4j2.properties",
)


class Broker:
    """A node and its directory. Start it in a thread that outlives it: on Linux it dies with that thread.

    Args:
        data_dir: The node's own directory, made and formatted if it does not exist or is empty.
        port: Where clients connect; 0 takes a free one, and later starts of this object take the same again.
        controller_port: Where the node talks to itself; 0 takes a free one at each start.
        security: TLS and SASL; none if not given.
    """

    def __init__(
        self, data_dir: Path, port: int = 0, *, controller_port: int = 0, security: Security | None = None
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.version = ""
        self.security = security or Security()
        self._controller_port = controller_port
        self._process: subprocess.Popen[bytes] | None = None
        self._last_error: Callable[[], str] = str

    @property
    def bootstrap(self) -> str:
        """The bootstrap address for clients."""
        return f"{HOST}:{self.port}"

    @property
    def kafka(self) -> Kafka:
        """How clients connect."""
        return self.security.kafka(self.bootstrap, self.data_dir)

    @property
    def pid(self) -> int:
        """The process id of Kafka's Java; 0 while none runs."""
        return self._process.pid if self._process else 0

    def start(self, timeout_s: float = _START_S) -> str:
        """Start the node, wait until it answers, and return its bootstrap address. Do nothing if it runs.

        1. Take the directory and lock it. 2. Choose the ports. 3. Find Java and the jars, which the first time are
        fetched. 4. Format the directory if it is new. 5. Start Java, which keeps the lock. 6. Wait for an answer.
        7. Add the user, if it has one.

        Raises:
            BrokerError: One of these failed; nothing is left running.
        """
        if self._process is not None and self._process.poll() is None:
            return self.bootstrap
        directory = BrokerDirectory(self.data_dir)
        try:
            self.port, controller_port = _claim_ports(self.port, self._controller_port)
            java, kafka = find_java(), find_kafka()
            command = [str(java), *_JVM_FLAGS, "-cp", kafka.class_path]
            self._configure(directory, controller_port, java)
            directory.format(lambda properties: _format(command, directory, properties))
            self.version = kafka.version
            self._process = _launch([*command, "kafka.Kafka", "server.properties"], directory)
            directory.used_by(self._process.pid)
            self._last_error = directory.last_error
            self._wait_until_ready(directory, time.monotonic() + timeout_s)
            self.security.add_user(self.bootstrap, self.data_dir)
        except BaseException:
            self.kill()
            raise
        finally:
            directory.close()  # Java holds the lock now, or no process does
        return self.bootstrap

    def _configure(self, directory: BrokerDirectory, controller_port: int, java: Path) -> None:
        directory.configure(
            self.port,
            controller_port,
            protocol=self.security.protocol,
            controller_protocol=self.security.controller_protocol,
            properties=self.security.prepare(self.data_dir, java),
        )

    def _wait_until_ready(self, directory: BrokerDirectory, deadline: float) -> None:
        itself = self.security.as_itself(self.bootstrap, self.data_dir)
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise BrokerError(f"Kafka did not start: {directory.last_error()}.")
            if clients.is_listening(HOST, self.port):
                answering = clients.cluster_id(itself, max(1.0, deadline - time.monotonic()))
                if answering == directory.cluster_id:
                    return
            time.sleep(_POLL_S)
        raise BrokerError(f"Kafka did not get ready in time: {directory.last_error()}.")

    def wait(self) -> None:
        """Wait until the node ends.

        Raises:
            BrokerError: It was not ended by SIGTERM.
        """
        assert self._process is not None
        pid, status = self.pid, self._process.wait()
        self._process = None
        if status not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
            raise BrokerError(
                f"Kafka on {self.bootstrap} (pid {pid}) has ended by itself with status {status}; its messages are "
                f"kept in {self.data_dir}. {self._last_error()}; start it again."
            )

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """Let the node write everything and end; kill it if that takes too long. Do nothing if none runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End the node at once, as kill -9 does. What it has acknowledged is kept."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None


@contextmanager
def running_broker(data_dir: Path, port: int = 0) -> Iterator[str]:
    """Run a node while the block runs, and yield its bootstrap address.

    Raises:
        BrokerError: It cannot be started.
    """
    broker = Broker(data_dir, port)
    try:
        yield broker.start()
    finally:
        broker.stop()


def serve_broker(data_dir: Path, port: int = DEFAULT_PORT, security: Security | None = None) -> None:
    """Run a node in the foreground until SIGTERM, SIGHUP or Ctrl-C, and print when it is ready and how to connect.

    Raises:
        BrokerError: It cannot be started, or has ended by itself.
    """
    broker = Broker(data_dir, port, security=security)
    with signals_as_interrupts():
        try:
            broker.start()
            print(
                f"Kafka {broker.version} is ready on {broker.bootstrap} (data in {data_dir}, pid {broker.pid})",
                flush=True,
            )
            if security and security.protocol != "PLAINTEXT":
                print(f"Clients connect by\n\n{settings_of(broker.kafka)}", flush=True)
            broker.wait()
        except KeyboardInterrupt:
            print("Stopping Kafka", flush=True)
        finally:
            broker.stop()


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Turn the three signals that mean "stop" into KeyboardInterrupt, also where a shell has Ctrl-C ignored."""
    stops = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.signal(stop, signal.default_int_handler) for stop in stops]
    try:
        yield
    finally:
        for stop, handler in zip(stops, before, strict=True):
            signal.signal(stop, handler)


def _claim_ports(port: int, controller_port: int) -> tuple[int, int]:
    for wanted, whose in ((port, "port"), (controller_port, "port for its controller")):
        reason = _why_not(wanted) if wanted else None
        if reason:
            raise BrokerError(
                f"Kafka's {whose}, {wanted} on {HOST}, cannot be used ({reason}); stop what uses it, or give another "
                "by --port (0 takes a free one)."
            )
    port = port or free_port()
    return port, controller_port or free_port(but=port)


def _why_not(port: int) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: a port that was just closed is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror
    return None


def free_port(but: int = 0) -> int:
    """Return a port of 127.0.0.1 that nothing listens on, and that no outgoing connection will get."""
    candidates = (port for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)) if port != but)
    return next(port for port in candidates if not _why_not(port))


def _format(command: Sequence[str], directory: BrokerDirectory, properties: str) -> None:
    """Run Kafka's storage tool, without eligible leader replicas: they make a restart of one killed node unclean."""
    tool = ["kafka.tools.StorageTool", "format", "--config", properties, "--cluster-id", directory.cluster_id]
    done = subprocess.run(
        [*command, *tool, "--feature", "eligible.leader.replicas.version=0"],
        cwd=directory.path,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-300:]
        raise BrokerError(
            f"Kafka's storage tool could not format {directory.path}: {said}; name another directory by --data-dir."
        )


def _launch(command: Sequence[str], directory: BrokerDirectory) -> subprocess.Popen[bytes]:
    """Start Java so that it dies with us, in its own session, so that a terminal's Ctrl-C reaches only us."""
    dies_with_us = [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid())]
    with directory.jvm_log.open("wb") as output:
        return subprocess.Popen(
            [*dies_with_us, *command],
            cwd=directory.path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[directory.lock_fd],
            start_new_session=True,
        )
