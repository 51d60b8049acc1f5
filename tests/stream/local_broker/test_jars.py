"""The jars of Kafka: only what the lock names, whole, and once."""

import hashlib
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pytest

from stream.errors import BrokerError
from stream.local_broker.jars import LockedJar, cache_directory, ensure_jars, fetch_by_jgo, find_kafka, read_lock

CONTENT = {"a-1.jar": b"first" * 1000, "b-2.jar": b"second" * 1000}
JARS = [LockedJar(hashlib.sha256(data).hexdigest(), PurePosixPath("org/x", name)) for name, data in CONTENT.items()]


def fetch_content(jar: LockedJar, directory: Path) -> Path:
    """A repository of two small jars."""
    (directory / jar.name).write_bytes(CONTENT[jar.name])
    return directory / jar.name


def fetch_nothing(jar: LockedJar, directory: Path) -> Path:
    """A repository that must not be asked."""
    pytest.fail(f"{jar.name} was fetched into {directory}")


def test_the_lock_names_every_jar_once_with_a_checksum() -> None:
    """Each line has a SHA-256 and a path in a Maven repository; Kafka and a backend for its logging are among them."""
    jars = read_lock()
    names = [jar.name for jar in jars]
    assert len(set(names)) == len(names) == 46
    assert all(len(jar.sha256) == 64 and jar.path.suffix == ".jar" and len(jar.path.parts) >= 4 for jar in jars)
    assert {"kafka_2.13-4.2.0.jar", "log4j-slf4j-impl-2.25.3.jar"} <= set(names)


def test_a_complete_cache_needs_no_repository(tmp_path: Path) -> None:
    """Once fetched, jars come from the cache, in the order of the lock."""
    fetched = ensure_jars(tmp_path, JARS, fetch_content)
    assert ensure_jars(tmp_path, JARS, fetch_nothing) == fetched == [tmp_path / jar.name for jar in JARS]
    assert [jar.read_bytes() for jar in fetched] == list(CONTENT.values())


def test_processes_that_start_at_once_fetch_each_jar_once(tmp_path: Path) -> None:
    """One fetches, the others wait, and all of them find whole jars and nothing else in the cache."""
    names: list[str] = []
    start = threading.Barrier(4)

    def fetch(jar: LockedJar, directory: Path) -> Path:
        names.append(jar.name)
        return fetch_content(jar, directory)

    def run(_: int) -> list[Path]:
        start.wait()
        return ensure_jars(tmp_path, JARS, fetch)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(4)))
    assert sorted(names) == sorted(CONTENT)
    assert all(result == results[0] for result in results)
    assert {path.name for path in tmp_path.iterdir()} == {*CONTENT, ".lock"}


def test_a_fetch_that_was_killed_leaves_no_half_jar(tmp_path: Path) -> None:
    """What lies aside from a killed fetch is thrown away, and only what is missing is fetched."""
    ensure_jars(tmp_path, JARS[:1], fetch_content)
    (tmp_path / ".fetch-killed").mkdir()
    (tmp_path / ".fetch-killed" / "b-2.jar").write_bytes(b"sec")
    ensure_jars(tmp_path, JARS, fetch_content)
    assert {path.name for path in tmp_path.iterdir()} == {*CONTENT, ".lock"}


def test_a_fetched_jar_that_differs_from_the_lock_is_refused(tmp_path: Path) -> None:
    """The sentence names the jar and both checksums, and the jar does not get into the cache."""

    def fetch(jar: LockedJar, directory: Path) -> Path:
        fetch_content(jar, directory).write_bytes(b"evil")
        return directory / jar.name

    evil = hashlib.sha256(b"evil").hexdigest()
    with pytest.raises(
        BrokerError, match=f"The jar a-1.jar has the SHA-256 {evil}, but the lock says {JARS[0].sha256}"
    ):
        ensure_jars(tmp_path, JARS, fetch)
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_a_jar_changed_in_the_cache_is_refused(tmp_path: Path) -> None:
    """The sentence names the file, and says to delete it."""
    ensure_jars(tmp_path, JARS, fetch_content)
    (tmp_path / "b-2.jar").write_bytes(b"evil")
    with pytest.raises(BrokerError, match=f"The jar b-2.jar has the SHA-256 .*; delete {tmp_path}/b-2.jar"):
        ensure_jars(tmp_path, JARS, fetch_nothing)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The sentence says which directory, and how to choose another."""
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"cannot be kept in .*/file/cache: .*set XDG_CACHE_HOME"):
        ensure_jars(tmp_path / "file" / "cache", JARS, fetch_content)


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME moves the cache; without it, it lies in ~/.cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "hstu-stream" / "kafka-4.2.0"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "hstu-stream" / "kafka-4.2.0"


def test_without_network_the_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jar that jgo cannot fetch is named, with the ways out."""
    pytest.importorskip("jgo")
    with socket.socket() as closed:  # bound and not listening: every connection is refused
        closed.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
        for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy)
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        with pytest.raises(
            BrokerError, match=r"Kafka's jar .*\.jar cannot be fetched \(ProxyError.*HTTPS_PROXY.*set KAFKA_HOME"
        ):
            ensure_jars(tmp_path, read_lock(), fetch_by_jgo)


def test_without_jgo_the_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no jgo: install the extra, or bring a Kafka."""
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(
        BrokerError, match=r"jgo.* is not installed; run pip install 'hstu-stream\[kafka\]', or set KAFKA_HOME"
    ):
        ensure_jars(tmp_path, JARS, fetch_by_jgo)


def test_kafka_home_replaces_the_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpacked Kafka is taken as it is, and its version is told."""
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka_2.13-4.3.1.jar").touch()
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)  # not even looked at
    kafka = find_kafka()
    assert (kafka.version, kafka.class_path) == ("4.3.1", f"{tmp_path}/libs/*")


@pytest.mark.parametrize(
    ("jar", "sentence"),
    [
        ("kafka_2.13-3.9.0.jar", "holds Kafka 3.9.0, but 4.0 is the oldest"),
        ("kafka-clients-4.2.0.jar", r"holds no libs/kafka_2.13-\*.jar; set it to the directory of an unpacked Kafka"),
    ],
)
def test_a_kafka_home_of_no_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jar: str, sentence: str
) -> None:
    """One that is too old or that holds no broker is told, and nothing is fetched in its place."""
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / jar).touch()
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match=sentence):
        find_kafka()
