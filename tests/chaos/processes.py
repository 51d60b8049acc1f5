"""The system under test: a Kafka of its own, workers on two "hosts" (data directories), a trainer; a supervisor.

Host 1 lies on a small file system of its own where that can be mounted, so that its disk can be full.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sim.config import Settings, load
from sim.demo.processes import Child
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.local_broker.node import Broker

ROOT: Final = Path(__file__).parents[2]
SHIM: Final = Path(__file__).parent / "shim"
HOSTS: Final = 2
_DISK_MB: Final = 256
_TRAINER_ENDS: Final = 12
_SMALL: Final = """
[model]
dim = 16
heads = 2
layers = 1
max_len = 512

[train]
batch_examples = 16
negatives = 32
checkpoint_s = 2.0
snapshot_s = 4.0
"""
TOML: Final = {
    "default": _SMALL,
    "strict": """
[stream]
lateness_s = 5.0
idle_timeout_s = 0
future_s = 0
action_window_s = 60.0
example_tokens = 32
poll_records = 500
"""
    + _SMALL,
}


@dataclass
class Worker:
    """A worker process on a host."""

    child: Child
    host: int
    clock: Path


class System:
    """Everything that runs; `close` ends it."""

    def __init__(self, folder: Path, profile: str) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.config = folder / "hstu.toml"
        self.config.write_text(TOML[profile])
        self.settings: Settings = load(self.config)
        self.broker = Broker(folder / "kafka")
        self.workers: list[Worker] = []
        self.trainer: Child
        self.trainer_clock = self._clock("trainer")
        self.ends: list[str] = []  # what a process said that ended by itself
        self._started = 0
        self._mounted = self._mount()

    def _mount(self) -> bool:
        self.data(1).mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(self.data(1))]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    @property
    def kafka(self) -> Kafka:
        """The Kafka of the run."""
        return Kafka(self.broker.bootstrap)

    @property
    def disk_can_fill(self) -> bool:
        """Whether host 1 has a file system of its own."""
        return self._mounted

    def data(self, host: int) -> Path:
        """Return a host's data directory; the trainer is on host 0."""
        return self.folder / f"host{host}"

    def start(self, workers: int) -> None:
        """Start everything."""
        self.broker.start()
        create_topics(self.kafka, self.settings.stream)
        self.start_trainer()
        for number in range(workers):
            self.start_worker(number % HOSTS)

    def start_worker(self, host: int) -> Worker:
        """Start one more worker."""
        self._started += 1
        name = f"worker{self._started}-host{host}"
        clock = self._clock(name)
        worker = Worker(self._child(name, host, clock, "worker"), host, clock)
        self.workers.append(worker)
        return worker

    def start_trainer(self) -> None:
        """Start the trainer."""
        self._started += 1
        self.trainer_clock.write_text("0")
        self.trainer = self._child(f"trainer{self._started}", 0, self.trainer_clock, "train", "--until-end", "--quiet")

    def run(self, *arguments: str) -> str:
        """Run another verb of `hstu` to its end; return what it printed."""
        self._started += 1
        child = self._child(f"verb{self._started}", 0, self.trainer_clock, *arguments)
        assert child.wait(120) == 0, child.log.read_text()
        return child.log.read_text()

    def kill(self, worker: Worker) -> None:
        """End a worker as kill -9 does; it is not started again."""
        self.workers.remove(worker)
        worker.child.kill()

    def leave(self, worker: Worker) -> None:
        """End a worker by SIGTERM."""
        self.workers.remove(worker)
        terminate(worker.child)

    def supervise(self) -> None:
        """Start again what has failed, and keep what it said; a trainer that has come to the end may rest."""
        self.supervise_workers()
        if not self.trainer.running() and self.trainer.wait(1):
            self.ends.append(f"{self.trainer.name}: {self.trainer.last_words()}")
            ended = sum(end.startswith("trainer") for end in self.ends)
            assert ended < _TRAINER_ENDS, f"the trainer stops again and again: {self.trainer.last_words()}"
            self.start_trainer()

    def supervise_workers(self) -> None:
        """Do so for the workers; one must be left."""
        for worker in list(self.workers):
            if not worker.child.running():
                self.ends.append(f"{worker.child.name}: {worker.child.last_words()}")
                self.workers.remove(worker)
                self.start_worker(worker.host)

    @contextmanager
    def another_kafka(self) -> Iterator[None]:
        """Stop the trainer and all workers; what the block does to Kafka's messages, host 0 and backups is undone."""
        hosts = self.stop_workers()
        terminate(self.trainer)
        self.broker.stop()
        messages = self.broker.data_dir.with_name("messages-aside")
        kept = {folder: folder.with_name(f"{folder.name}-aside") for folder in (self.data(0), self.folder / "backups")}
        shutil.copytree(self.broker.data_dir / "logs", messages)
        for folder, aside in kept.items():
            folder.mkdir(exist_ok=True)
            folder.rename(aside)
            shutil.copytree(aside, folder)
        self.broker.start()
        try:
            yield
        finally:
            for worker in list(self.workers):
                self.kill(worker)
            self.trainer.kill()
            for folder, aside in kept.items():
                shutil.rmtree(folder)
                aside.rename(folder)
            self.replace_messages(messages)
            self.start_trainer()
            for host in hosts:
                self.start_worker(host)

    def stop_workers(self) -> list[int]:
        """Stop all workers cleanly; return the host of each."""
        hosts = [worker.host for worker in self.workers]
        for worker in list(self.workers):
            self.leave(worker)
        return hosts

    def replace_messages(self, other: Path) -> None:
        """Put other messages in the place of Kafka's."""
        logs = self.broker.data_dir / "logs"
        self.broker.stop()
        shutil.rmtree(logs)
        other.rename(logs)
        self.broker.start()

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Leave no room on host 1 while the block runs."""
        filler = self.data(1) / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
        try:
            yield
        finally:
            filler.unlink()

    def close(self) -> list[str]:
        """Stop everything; return what had to be killed."""
        trainer = [self.trainer] if hasattr(self, "trainer") else []  # none where Kafka has not started
        children = [*trainer, *(worker.child for worker in self.workers)]
        killed = [child.name for child in children if not terminate(child)]
        self.broker.stop()
        if self._mounted:
            subprocess.run(["umount", str(self.data(1))], check=True)
        return killed

    def _clock(self, name: str) -> Path:
        path = self.folder / "clocks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("0")
        return path

    def _child(self, name: str, host: int, clock: Path, *arguments: str) -> Child:
        environment = {
            "HSTU_DATA_DIR": str(self.data(host)),
            "HSTU_BOOTSTRAP": self.broker.bootstrap,
            "HSTU_STREAM__BACKUP_URL": str(self.folder / "backups"),
            "HSTU_STREAM__BACKUP_S": "3",
            "PYTHONPATH": f"{SHIM}{os.pathsep}{ROOT}",
            "CHAOS_CLOCK": str(clock),
            "OMP_NUM_THREADS": "1",
        }
        return Child(name, ["--config", str(self.config), *arguments], self.folder / "logs", environment)


def terminate(child: Child, timeout_s: float = 60.0) -> bool:
    """End a process by SIGTERM, by SIGKILL if that takes too long; return whether SIGTERM was enough."""
    deadline = time.monotonic() + timeout_s
    if child.running():
        os.kill(child.pid, signal.SIGTERM)
    while child.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    if child.running():
        child.kill()
        return False
    return True


def wait_for(true: Callable[[], Any], timeout_s: float, meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Wait until something holds; return whether it did in time."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        meanwhile()
        time.sleep(0.1)
    return True
