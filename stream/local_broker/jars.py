"""Find the jars of Apache Kafka: in KAFKA_HOME, or fetched once by jgo into the user's cache.

kafka_jars.lock names every jar of the class path, one a line, as sha256sum writes it:

    <64 hex digits>  <group with slashes>/<artifact>/<version>/<file name>

Only the jars of the lock are fetched, and checksums are verified at every start. The cache is flat:
$XDG_CACHE_HOME/hstu-stream/kafka-4.2.0/*.jar (default ~/.cache). A complete cache needs neither network nor jgo. After
a change of VERSION, `python -m stream.local_broker.jars` writes the lock again.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from filelock import FileLock

from stream.errors import BrokerError

VERSION: Final = "4.2.0"
LOCK_FILE: Final = Path(__file__).with_name("kafka_jars.lock")
_ROOTS: Final = (
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3",  # Kafka logs by slf4j, but brings no backend for it
)
_OLDEST_MAJOR: Final = 4  # of a Kafka in KAFKA_HOME: older storage tools lack a feature that we set
_WAY_OUT: Final = (
    f"check the network and the proxy (HTTPS_PROXY), or set KAFKA_HOME to the directory of an unpacked Kafka {VERSION}"
)


@dataclass(frozen=True, slots=True)
class KafkaJars:
    """What Java needs to run a Kafka."""

    version: str
    class_path: str


@dataclass(frozen=True, slots=True)
class LockedJar:
    """A line of the lock: a jar's checksum and its path in a Maven repository."""

    sha256: str
    path: PurePosixPath

    @property
    def name(self) -> str:
        """The file name, unique in the lock."""
        return self.path.name


Fetch = Callable[[LockedJar, Path], Path]
"""Fetches a jar into an empty directory and returns the file's path."""


def find_kafka() -> KafkaJars:
    """Return the Kafka in KAFKA_HOME if that is set, else the locked one, whose missing jars are fetched.

    Raises:
        BrokerError: KAFKA_HOME holds no Kafka, jgo is needed and not installed, or a jar cannot be fetched or differs
            from the lock.
    """
    home = os.environ.get("KAFKA_HOME")
    if home:
        return _kafka_in(Path(home).absolute())
    cache, jars = cache_directory(), read_lock()
    if _missing(cache, jars):
        _maven()  # raises before anything is said of fetching
    return KafkaJars(VERSION, os.pathsep.join(map(str, ensure_jars(cache, jars, fetch_by_jgo))))


def _kafka_in(home: Path) -> KafkaJars:
    for jar in sorted(home.glob("libs/kafka_2.*.jar")):
        found = re.fullmatch(r"kafka_2\.\d+-(\d+)\.([\d.]+\d)\.jar", jar.name)
        if found and int(found[1]) < _OLDEST_MAJOR:
            raise BrokerError(
                f"KAFKA_HOME={home} holds Kafka {found[1]}.{found[2]}, but {_OLDEST_MAJOR}.0 is the oldest that this "
                f"program can start; unpack Kafka {VERSION} there, or unset KAFKA_HOME."
            )
        if found:
            return KafkaJars(f"{found[1]}.{found[2]}", str(home / "libs" / "*"))
    raise BrokerError(
        f"KAFKA_HOME={home} holds no libs/kafka_2.13-*.jar; set it to the directory of an unpacked Kafka, or unset it."
    )


def cache_directory() -> Path:
    """Return the directory of the fetched jars, which need not exist yet."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches).absolute() / "hstu-stream" / f"kafka-{VERSION}"


def read_lock(file: Path = LOCK_FILE) -> list[LockedJar]:
    """Read the lock's lines."""
    lines = (line.split() for line in file.read_text().splitlines())
    return [LockedJar(sha256, PurePosixPath(path)) for sha256, path in lines]


def ensure_jars(cache: Path, jars: Sequence[LockedJar], fetch: Fetch) -> list[Path]:
    """Return the jars' files in the cache, all with the checksums of the lock; fetch those that are missing.

    Several processes may do this at once: one fetches, the others wait for it. A jar is fetched into a temporary
    folder, checked, and only then renamed into the cache, so the cache never holds half a jar.

    Raises:
        BrokerError: A jar cannot be fetched, or differs from the lock; the sentence names it.
    """
    if _missing(cache, jars):
        with _only_one(cache):
            _fetch_all(cache, _missing(cache, jars), fetch)
    for jar in jars:
        _check(cache / jar.name, jar, f"delete {cache / jar.name} and start again to fetch it again")
    return [cache / jar.name for jar in jars]


def _missing(cache: Path, jars: Sequence[LockedJar]) -> list[LockedJar]:
    return [jar for jar in jars if not (cache / jar.name).exists()]


@contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / ".lock").acquire()
    except OSError as error:
        raise BrokerError(
            f"Kafka's jars cannot be kept in {cache}: {error.strerror}; set XDG_CACHE_HOME to a writable directory."
        ) from error
    with lock:
        yield


def _fetch_all(cache: Path, jars: Sequence[LockedJar], fetch: Fetch) -> None:
    from rich.console import Console
    from rich.progress import track

    for left_by_a_crash in cache.glob(".fetch-*"):
        shutil.rmtree(left_by_a_crash, ignore_errors=True)
    console = Console(stderr=True)
    if jars:
        console.print(f"Fetching Apache Kafka {VERSION} ({len(jars)} jars, once) into {cache}", soft_wrap=True)
    for jar in track(jars, "jars", console=console, transient=True, disable=not console.is_terminal):
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as aside:
            file = fetch(jar, Path(aside))
            _check(
                file,
                jar,
                f"what was fetched is not what Kafka {VERSION} was locked with, so it is not used; {_WAY_OUT}",
            )
            file.replace(cache / jar.name)


def _check(file: Path, jar: LockedJar, remedy: str) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != jar.sha256:
        raise BrokerError(f"The jar {jar.name} has the SHA-256 {found}, but the lock says {jar.sha256}; {remedy}.")


def fetch_by_jgo(jar: LockedJar, directory: Path) -> Path:
    """Fetch one jar from where jgo looks for it.

    Raises:
        BrokerError: Jgo is not installed, or cannot fetch the jar.
    """
    *group, artifact, version, _ = jar.path.parts
    try:
        component = _maven()(repo_cache=directory).project(".".join(group), artifact).at_version(version)
        return Path(component.artifact().resolve())
    except (OSError, RuntimeError) as error:  # requests' exceptions are OSErrors
        raise BrokerError(
            f"Kafka's jar {jar.name} cannot be fetched ({type(error).__name__}: {str(error)[:200]}); {_WAY_OUT}."
        ) from error


def _maven() -> Any:
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise BrokerError(
            "Kafka's jars are not in the cache, and jgo, which fetches them, is not installed; "
            "run pip install 'hstu-stream[kafka]', or set KAFKA_HOME to the directory of an unpacked Kafka."
        ) from error
    return MavenContext


def write_lock(file: Path = LOCK_FILE) -> int:
    """Resolve the newest closure of the roots, fetch it, write its lock and return the number of jars."""
    import jgo

    paths: dict[tuple[str, str], PurePosixPath] = {}
    for artifact in (found for root in _ROOTS for found in jgo.resolve(root)):
        name = (artifact.groupId, artifact.artifactId)
        path = PurePosixPath(*artifact.groupId.split("."), artifact.artifactId, artifact.version, artifact.filename)
        if paths.setdefault(name, path) != path:
            raise BrokerError(f"The roots disagree about {path} and {paths[name]}; choose versions that agree.")
    with tempfile.TemporaryDirectory() as aside:
        lines = [f"{_sha256_of(path, Path(aside))}  {path}\n" for path in sorted(paths.values())]
    file.write_text("".join(lines))
    return len(lines)


def _sha256_of(path: PurePosixPath, directory: Path) -> str:
    return hashlib.sha256(fetch_by_jgo(LockedJar("", path), directory).read_bytes()).hexdigest()


if __name__ == "__main__":
    print(f"{LOCK_FILE}: {write_lock()} jars")
