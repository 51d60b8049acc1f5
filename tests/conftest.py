"""Fixtures for all tests: one real Kafka for the whole run, started when the first test asks for it."""

import fcntl
import gc
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import hypothesis
import pytest
from filelock import FileLock

from tests.kafka import KafkaForTests, kafka_for_tests

# Compiling and neighbours take their time. A change is judged by the same examples whenever it is tested, and
# `make test-all` draws new ones, twice as many (--hypothesis-profile=explore).
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=100)
hypothesis.settings.load_profile("same")

_used = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[KafkaForTests]:
    """A Kafka: HSTU_BOOTSTRAP's, else one in Docker, else a node of our own. All tests share it: use topic_prefix."""
    output = getattr(pytestconfig, "workeroutput", None)
    folder = tmp_path_factory.getbasetemp()
    with kafka_for_tests(folder / "kafka") if output is None else _kafka_of_all_workers(folder.parent) as running:
        if output is None:
            pytestconfig.stash[_used] = running.description
        else:
            output["kafka"] = running.description
        yield running


@contextmanager
def _kafka_of_all_workers(folder: Path) -> Iterator[KafkaForTests]:
    """Yield the Kafka that the workers of pytest-xdist share: the first to ask starts it, and stops it after the last.

    Each user holds a shared lock, which also ends when its process is killed.
    """
    address, lock = folder / "kafka", FileLock(folder / "kafka.lock")
    with ExitStack() as stack:
        users = stack.enter_context((folder / "kafka.users").open("w"))
        with lock:
            started = not address.exists()
            if started:
                running = stack.enter_context(kafka_for_tests(Path(mkdtemp(prefix="kafka-", dir=folder))))
                address.write_text(f"{running.bootstrap}\n{running.description}")
            else:
                running = KafkaForTests(*address.read_text().split("\n"))
            fcntl.flock(users, fcntl.LOCK_SH)
        yield running
        if started:
            with lock:
                address.unlink()
            fcntl.flock(users, fcntl.LOCK_EX)


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test has, for topics and groups on the shared Kafka."""
    return f"t{uuid.uuid4().hex[:12]}-"


def pytest_configure(config: pytest.Config) -> None:
    """Let each of several workers use one thread: together they have as many as there are cores."""
    if hasattr(config, "workerinput"):
        for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
            os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `broker` what asks for a Kafka; skip what is marked `gpu` where there is none; run tests/e2e last.

    The processes that tests/e2e starts then find the loops that other tests have compiled.
    """
    items.sort(key=lambda item: "e2e" in item.path.parts)
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("broker")
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _kernels_can_run():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device here"))


def pytest_collection_finish() -> None:
    """Leave what has been imported to itself: it stays, and each collection of garbage would look at all of it."""
    gc.freeze()


def _kernels_can_run() -> bool:
    """Return whether there is a CUDA device, or Triton interprets its kernels on the CPU."""
    import torch

    return torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note which Kafka a worker of pytest-xdist used."""
    if used := getattr(node, "workeroutput", {}).get("kafka"):
        node.config.stash[_used] = used


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print on which Kafka the tests ran."""
    if _used in config.stash:
        terminalreporter.write_line(f"Kafka: {config.stash[_used]}")
