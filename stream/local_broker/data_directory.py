"""The data directory of one Kafka node: its files, the cluster it belongs to, and the lock of the running node.

    hstu-broker.json    {"format": 1, "cluster_id": "<22 characters>"}: made by us, for this cluster
    lock                locked (flock) by the running node and its JVM; holds the JVM's process id
    server.properties, log4j2.properties    written at each start; the first for its owner alone
    secrets/, tls/      passwords and certificates of a secured node (secured.py)
    kafka.log, jvm.log  what Kafka logs (three files of 10 MB at most), what Java prints
    logs/               Kafka's own: meta.properties and the messages

Kafka runs with this directory as its working directory, so its paths are relative and need no escaping. The lock is
fcntl's own, not filelock's: Java inherits its descriptor, and so keeps the directory locked as long as it runs.
"""

import base64
import contextlib
import fcntl
import json
import re
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from stream.errors import BrokerError

_FORMAT: Final = 1
_MARKER: Final = "hstu-broker.json"
_LOCK: Final = "lock"
_PATIENCE_S: Final = 1.0  # for the lock: a killed node takes a moment to end

# One node: every internal topic has one replica. Records of old and future event times are kept (retention, timestamp
# bound), and memory is kept small (dedupe buffer, threads, index files). A killed node may register again once its last
# session has expired, after 9 s, Kafka's default: at 3 s a node on a busy machine fences itself, and loses all leaders.
_SERVER_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:{protocol},CONTROLLER:{controller_protocol}
log.dirs={logs}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.retention.ms=-1
log.message.timestamp.after.max.ms=9223372036854775807
log.segment.bytes=134217728
log.index.size.max.bytes=1048576
log.preallocate=false
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
broker.heartbeat.interval.ms=500
"""

_LOG4J2_PROPERTIES: Final = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName=kafka.log
appender.file.filePattern=kafka.log.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %m (%c{1})%n%throwable
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
logger.settings.name=org.apache.kafka.common.config.AbstractConfig
logger.settings.level=warn
rootLogger.level=info
rootLogger.appenderRefs=file
rootLogger.appenderRef.file.ref=file
"""

_FULL: Final = "No space left on device"  # what Java says last is a consequence of it
_ERROR_LINE: Final = re.compile(r"^(?:Caused by: )?[\w.]+(?:Exception|Error): .*$|^Error.*$", re.MULTILINE)


class BrokerDirectory:
    """A directory that is ours, locked until close().

    Raises:
        BrokerError: It is foreign, another cluster's, in use, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log_begin = 0
        try:
            _refuse_foreign(path)
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
        except OSError as error:
            raise BrokerError(
                f"Kafka's directory {path} cannot be used: {error.strerror}; name one that you may write by --data-dir."
            ) from error
        try:
            self.cluster_id = _cluster_id(path)
        except BaseException:
            self._lock.close()
            raise

    @property
    def lock_fd(self) -> int:
        """The lock's file descriptor; a child that inherits it keeps the directory locked as long as it runs."""
        return self._lock.fileno()

    @property
    def log(self) -> Path:
        """The file that Kafka logs to."""
        return self.path / "kafka.log"

    @property
    def jvm_log(self) -> Path:
        """The file that Java prints to."""
        return self.path / "jvm.log"

    def configure(self, port: int, controller_port: int, **security: str) -> None:
        """Write the configuration for a start on these ports; last_error() looks at what is logged from now on.

        Args:
            port: Of clients.
            controller_port: Of the node's controller.
            security: `protocol` of clients, `controller_protocol`, further `properties`; all PLAINTEXT if not given.
        """
        self._log_begin = self.log.stat().st_size if self.log.exists() else 0
        self._write("server.properties", port, controller_port, "logs", **security)
        (self.path / "log4j2.properties").write_text(_LOG4J2_PROPERTIES)

    def format(self, format_by: Callable[[str], None]) -> None:
        """Format a new directory by a function of a properties file's name; do nothing if it has data."""
        if (self.path / "logs").exists():
            return
        aside = self.path / "logs.new"
        shutil.rmtree(aside, ignore_errors=True)
        self._write("format.properties", 9092, 9093, aside.name)
        format_by("format.properties")
        aside.rename(self.path / "logs")
        (self.path / "format.properties").unlink()

    def _write(
        self,
        name: str,
        port: int,
        controller_port: int,
        logs: str,
        *,
        protocol: str = "PLAINTEXT",
        controller_protocol: str = "PLAINTEXT",
        properties: str = "",
    ) -> None:
        text = _SERVER_PROPERTIES.format(
            port=port,
            controller_port=controller_port,
            logs=logs,
            protocol=protocol,
            controller_protocol=controller_protocol,
        )
        file = self.path / name
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(text + properties)

    def last_error(self) -> str:
        """Return the newest error of Kafka or Java since configure(), and the log that says more."""
        for log, begin in ((self.log, self._log_begin), (self.jvm_log, 0)):
            text = log.read_bytes()[begin:].decode(errors="replace") if log.exists() else ""
            if _FULL in text:
                return f"{_FULL}: make room for {self.path} ({log} says more)"
            errors = _ERROR_LINE.findall(text)
            if errors:
                return f"{errors[-1][:300].strip()} ({log} says more)"
        return f"{self.log} and {self.jvm_log} may say why"

    def used_by(self, pid: int) -> None:
        """Write down the process that uses the directory, for the error message of the next one that tries."""
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(str(pid))
        self._lock.flush()

    def close(self) -> None:
        """Unlock the directory."""
        self._lock.close()


def _refuse_foreign(path: Path) -> None:
    """Refuse before anything is written: only an empty directory, or one that we made, becomes ours."""
    if not path.exists() or (path / _MARKER).exists():
        return
    content = {entry.name for entry in path.iterdir()} - {_LOCK}
    if "meta.properties" in content:
        raise BrokerError(
            f"{path} belongs to another Kafka cluster ({_cluster_in(path / 'meta.properties')}); "
            "name a new or an empty directory by --data-dir."
        )
    if content:
        raise BrokerError(
            f"{path} is not empty and was not made by hstu broker (it holds {min(content)}); "
            f"name a new or an empty directory by --data-dir, such as {path / 'broker'}."
        )


def _lock(path: Path) -> IO[str]:
    lock = (path / _LOCK).open("a+")
    deadline = time.monotonic() + _PATIENCE_S
    while not _flock(lock):
        if time.monotonic() > deadline:
            lock.seek(0)
            user = lock.read().strip() or "unknown"
            lock.close()
            raise BrokerError(
                f"{path} is in use by another running Kafka node (pid {user}); stop that one, or name another "
                "directory by --data-dir."
            )
        time.sleep(_PATIENCE_S / 20)
    return lock


def _flock(lock: IO[str]) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _cluster_id(path: Path) -> str:
    """Return the directory's cluster id, made for a new one; refuse it if Kafka's own files name another cluster."""
    marker = path / _MARKER
    if not marker.exists():
        marker.with_suffix(".new").write_text(json.dumps({"format": _FORMAT, "cluster_id": _new_cluster_id()}) + "\n")
        marker.with_suffix(".new").rename(marker)
    try:
        content = json.loads(marker.read_text())
        version, cluster_id = content["format"], str(content["cluster_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise BrokerError(f"{marker} is damaged; name another directory by --data-dir.") from error
    if version != _FORMAT:
        raise BrokerError(f"{marker} has format {version}, this program knows {_FORMAT}; use the newer hstu-stream.")
    if (path / "logs").exists() and _cluster_in(path / "logs" / "meta.properties") != f"cluster.id {cluster_id}":
        found = _cluster_in(path / "logs" / "meta.properties")
        raise BrokerError(
            f"{path / 'logs'} belongs to another Kafka cluster ({found}, but {_MARKER} says {cluster_id}); "
            "name another directory by --data-dir."
        )
    return cluster_id


def _cluster_in(meta_properties: Path) -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^cluster\.id=(.*)$", meta_properties.read_text(errors="replace"), re.MULTILINE)
        if found:
            return f"cluster.id {found[1].strip()}"
    return "without cluster.id"


def _new_cluster_id() -> str:
    """Return a random id as Kafka writes it: 16 bytes in URL-safe base64, not starting like a flag."""
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text
