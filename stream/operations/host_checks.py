"""What `hstu doctor` looks at on this machine: versions, the data directory, its disk, the clock against Kafka's."""

import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from packaging.requirements import Requirement

from stream.config import StreamSettings
from stream.errors import BrokerError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.permissions import check_permissions
from stream.operations.findings import Finding, fail, ok, warn

_TIMEOUT_S: Final = 10.0
_FULL_BYTES, _NEARLY_FULL_BYTES = 512 << 20, 5 << 30
_CLOCK_WARN_S, _CLOCK_FAIL_S = 2.0, 60.0
_CLOSED_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_COPIES: Final = ("rescaling", "rescale-sample-*", "store-of-*-partitions")
_OLDEST_KAFKA: Final = (2, 1)
_BROKER_TIME: Final = {"message.timestamp.type": "LogAppendTime"}


def check_versions() -> Iterator[Finding]:
    """Yield whether the installed packages are those that hstu-stream asks for."""
    wrong, found = [], []
    try:
        wanted = [Requirement(line) for line in requires("hstu-stream") or []]
    except PackageNotFoundError:
        yield warn("versions", "hstu-stream itself is not installed as a package", "install it by pip")
        return
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        found.append(f"{requirement.name} {installed}")
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed} where {requirement.specifier} is wanted")
    if wrong:
        yield fail("versions", ", ".join(wrong), "install hstu-stream again by pip, with its constraints.txt")
    else:
        python = ".".join(map(str, sys.version_info[:3]))
        yield ok("versions", f"hstu-stream {version('hstu-stream')}, Python {python}, {', '.join(found)}")


def check_data_dir(data_dir: Path) -> Iterator[Finding]:
    """Yield whether the data directory can be written, by its owner alone, and its disk has room."""
    path = data_dir if data_dir.exists() else _nearest(data_dir)
    if not os.access(path, os.W_OK | os.X_OK) or not path.is_dir():
        yield fail("data directory", f"{path} cannot be written by this user", "mend its owner, or name another")
        return
    if not data_dir.exists():
        yield ok("data directory", f"{data_dir} does not exist yet; the first worker or trainer makes it")
    elif data_dir.stat().st_mode & _CLOSED_TO_OTHERS:
        yield warn(
            "data directory",
            f"{data_dir} is open to others on this machine, and holds what users did",
            f"chmod -R go-rwx {data_dir}",
        )
    else:
        yield ok("data directory", f"{data_dir} is this user's alone")
    yield _room(path)


def check_copies(data_dir: Path) -> Iterator[Finding]:
    """Yield which folders of the data directory hold users' histories that `hstu forget` does not reach."""
    if found := sorted(path.name for pattern in _COPIES for path in data_dir.glob(pattern) if path.is_dir()):
        yield warn(
            "copies",
            f"{', '.join(found)} in {data_dir}, left by hstu topics rescale: users forgotten since are still there",
            "delete them once no rescale is to go on, and the stores of before are not wanted (docs/recovery.md, More "
            "partitions)",
        )


def _nearest(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def _room(path: Path) -> Finding:
    usage = shutil.disk_usage(path)
    says = f"{usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.1f} GiB are free at {path}"
    mend = "make room: stores, checkpoints and snapshots grow (hstu snapshots gc)"
    if usage.free < _FULL_BYTES:
        return fail("disk", says, mend)
    return warn("disk", says, mend) if usage.free < _NEARLY_FULL_BYTES else ok("disk", says)


def check_kafka(kafka: Kafka) -> Iterator[Finding]:
    """Yield which Kafka answers.

    Raises:
        BrokerError: None does.
    """
    with clients.admin_client(kafka, _TIMEOUT_S) as admin:
        cluster = admin.describe_cluster()
        brokers = [broker for broker in cluster["brokers"] if not broker.get("is_fenced", False)]
        release = min(admin.get_broker_version_data(broker["broker_id"]).broker_version for broker in brokers)
    name = ".".join(map(str, release))
    count = "1 broker" if len(brokers) == 1 else f"{len(brokers)} brokers"
    says = f"version {name}, {count}, cluster {cluster['cluster_id']}, at {kafka} by {kafka.security.security_protocol}"
    if release < _OLDEST_KAFKA:
        yield fail("Kafka", says, f"use Kafka {'.'.join(map(str, _OLDEST_KAFKA))} or newer")
    else:
        yield ok("Kafka", says)


def check_clock(kafka: Kafka, settings: StreamSettings) -> Iterator[Finding]:
    """Yield how far this machine's clock is from Kafka's: a topic made for it and deleted again has a record's time.

    Raises:
        BrokerError: Kafka does not answer, or refuses; whether the topic is there is said.
    """
    name = f"{settings.topic_prefix}hstu-doctor-{uuid4().hex[:8]}"
    check_permissions(kafka, writes=[name], others=[("CREATE", name), ("DELETE", name)])
    try:
        with clients.admin_client(kafka, _TIMEOUT_S) as admin:
            admin.create_topics([clients.NewTopic(name, 1, 1, topic_configs=_BROKER_TIME)])
            try:
                before, said, after = _ask_time(kafka, name)
            finally:
                _delete(admin, name)
    except BrokerError as error:
        raise BrokerError(f"{error} It was about {name}, a topic made for a moment.") from None
    yield _clock(max(before - said, said - after, 0.0), ahead=said < before)


def _delete(admin: Any, name: str) -> None:
    try:
        admin.delete_topics([name])
    except clients.KafkaError as error:
        raise BrokerError(
            f"The topic is still there, since it could not be deleted: {clients.reason(error)}; delete it by hand."
        ) from error


def _ask_time(kafka: Kafka, topic: str) -> tuple[float, float, float]:
    """Return this machine's time before Kafka took a record, Kafka's time of it, and this machine's time after that."""
    producer = clients.producer(kafka, acks="all")
    try:
        producer.send(topic, b"warm-up").get(_TIMEOUT_S)
        before = time.time()
        said = producer.send(topic, b"what time is it?").get(_TIMEOUT_S).timestamp / 1000
        return before, said, time.time()
    finally:
        producer.close()


def _clock(off_s: float, *, ahead: bool) -> Finding:
    if off_s < _CLOCK_WARN_S:
        return ok("clock", f"within {_CLOCK_WARN_S:g} s of Kafka's")
    says = f"{off_s:.1f} s {'ahead of' if ahead else 'behind'} Kafka's"
    mend = "let NTP set both clocks: queries are asked at this machine's time, and events are judged by Kafka's"
    return (fail if off_s >= _CLOCK_FAIL_S else warn)("clock", says, mend)
