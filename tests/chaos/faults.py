"""How each fault is done, and how long the pipeline takes to come back."""

import asyncio
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from aiokafka.errors import KafkaError

from stream.kafka import clients
from stream.kafka.topics import create_topics
from stream.schema.topics import ALL, EXAMPLES
from stream.store.rocksdb import partition_path
from tests.chaos.load import Load
from tests.chaos.processes import HOSTS, System, Worker, terminate, wait_for
from tests.chaos.report import Outcome
from tests.chaos.schedule import Fault
from tests.chaos.watch import Watch, kept_offsets
from tests.kafka_logs import delete_before

RECOVERY_S: Final = 300.0
_REFUSAL_S: Final = 90.0
_NOT_BACK: Final = f"not everything is joined {RECOVERY_S:g} s later"
_CLOCKS_S: Final = (-3600, -600, 600, 3600)
_GONE: Final = r"ends at offset|holds another record|another Kafka|made again|deleted \d+ records unread"
_NO_ROOM: Final = r"[Nn]o space|full|make room"


class Chaos:
    """Does faults to a system under load."""

    def __init__(self, system: System, load: Load) -> None:
        self._system, self._load = system, load
        self._settings = system.settings.stream
        self._watch = Watch(system.broker.bootstrap, self._settings)

    def close(self) -> None:
        """Watch no more."""
        self._watch.close()

    def do(self, fault: Fault) -> Outcome:
        """Do one fault, and wait until what was sent before its end has been joined everywhere."""
        time.sleep(fault.pause_s)
        if fault.kind == "disk full" and not self._system.disk_can_fill:
            return Outcome(fault, None, skipped="no file system of its own can be mounted here: needs root")
        begun, wall_ms = time.monotonic(), time.time() * 1000
        wrong = FAULTS[fault.kind](self, fault)
        if fault.kind.startswith("refusal"):
            self._watch.reconnect()
            back = self.recovered(time.time() * 1000)
            return Outcome(fault, None, wrong or ("" if back else _NOT_BACK))
        if not self.recovered(wall_ms):
            return Outcome(fault, None, wrong or _NOT_BACK)
        return Outcome(fault, time.monotonic() - begun, wrong)

    def recovered(self, wall_ms: float) -> bool:
        """Wait until every partition is joined up to a time and the trainer reads; return whether that came in time."""
        beyond_ms = wall_ms - 1000 * self._settings.lateness_s

        def back() -> bool:
            trainer = self._system.trainer
            return self._watch.look() > beyond_ms and trainer.running() and "Metrics on" in trainer.log.read_text()

        return wait_for(back, RECOVERY_S, self._system.supervise)

    def _worker(self, fault: Fault) -> Worker:
        self._system.supervise()
        return self._system.workers[fault.victim % len(self._system.workers)]

    def kill_worker(self, fault: Fault) -> str:
        """Kill -9 a worker, and start another on its host."""
        worker = self._worker(fault)
        self._system.kill(worker)
        self._system.start_worker(worker.host)
        return ""

    def kill_trainer(self, fault: Fault) -> str:
        """Kill -9 the trainer, and start it again."""
        self._system.trainer.kill()
        self._system.start_trainer()
        return ""

    def kill_both(self, fault: Fault) -> str:
        """Kill -9 a worker and the trainer at once."""
        return self.kill_trainer(fault) + self.kill_worker(fault)

    def kill_kafka(self, fault: Fault) -> str:
        """Kill -9 Kafka, and start it again."""
        self._system.broker.kill()
        time.sleep(fault.between(0, 3))
        self._system.broker.start()
        return ""

    def stop_worker(self, fault: Fault) -> str:
        """Hang a worker by SIGSTOP, for less or more than its session."""
        return _hang(self._worker(fault).child.pid, fault.between(1, 14))

    def stop_trainer(self, fault: Fault) -> str:
        """Hang the trainer."""
        return _hang(self._system.trainer.pid, fault.between(1, 12))

    def stop_kafka(self, fault: Fault) -> str:
        """Hang Kafka."""
        return _hang(self._system.broker.pid, fault.between(1, 8))

    def rolling_restart(self, fault: Fault) -> str:
        """Stop every worker cleanly, one after the other, each replaced before the next."""
        for worker in list(self._system.workers):
            self._system.leave(worker)
            self._system.start_worker(worker.host)
            time.sleep(1)
        return ""

    def join(self, fault: Fault) -> str:
        """Let one more worker join, and of more than three one leave."""
        self._system.start_worker(fault.victim % HOSTS)
        if len(self._system.workers) > 3:
            self._system.leave(self._system.workers[0])
        return ""

    def leave(self, fault: Fault) -> str:
        """Let a worker leave; the last is replaced."""
        worker = self._worker(fault)
        self._system.leave(worker)
        if not self._system.workers:
            self._system.start_worker(worker.host)
        return ""

    def move(self, fault: Fault) -> str:
        """Replace a worker by one on another host, whose stores are older, or not there."""
        worker = self._worker(fault)
        self._system.leave(worker)
        self._system.start_worker((worker.host + 1) % HOSTS)
        return ""

    def delete_store(self, fault: Fault) -> str:
        """Kill a host's workers, delete one of its stores, start them again."""
        host = self._worker(fault).host
        gone = [worker for worker in self._system.workers if worker.host == host]
        for worker in gone:
            self._system.kill(worker)
        number = fault.victim // 7 % self._settings.partitions
        shutil.rmtree(partition_path(self._system.data(host), number), ignore_errors=True)
        for _ in gone:
            self._system.start_worker(host)
        return ""

    def workers_clock(self, fault: Fault) -> str:
        """Move a worker's clock; it stays so."""
        self._worker(fault).clock.write_text(str(_CLOCKS_S[fault.victim % len(_CLOCKS_S)]))
        return ""

    def trainers_clock(self, fault: Fault) -> str:
        """Move the trainer's clock back by an hour; it goes on writing checkpoints."""
        name = self._system.settings.train.name
        self._system.trainer_clock.write_text("-3600")
        before = kept_offsets(self._system.data(0), name)
        wrote = wait_for(lambda: kept_offsets(self._system.data(0), name) != before, 60, self._system.supervise)
        self._system.trainer_clock.write_text("0")
        return "" if wrote else "no checkpoint within 60 s"

    def disk_full(self, fault: Fault) -> str:
        """Fill the disk of host 1 until a worker there says so."""
        if not any(worker.host == 1 for worker in self._system.workers):
            self._system.start_worker(1)
        workers = [worker for worker in self._system.workers if worker.host == 1]
        with self._system.full_disk():
            said = wait_for(lambda: any(_says(worker, _NO_ROOM) for worker in workers), 60)
        return "" if said else "nobody said that the disk is full"

    def poison(self, fault: Fault) -> str:
        """Send records that must stop nobody."""
        self._load.poison(fault.victim)
        return ""

    def fast_client(self, fault: Fault) -> str:
        """Send an action of a client whose clock is fast."""
        self._load.fast_client(fault.victim)
        return ""

    def trim_examples(self, fault: Fault) -> str:
        """Delete examples that every checkpoint has behind it, as retention does."""
        for number, offset in enumerate(kept_offsets(self._system.data(0), self._system.settings.train.name)):
            self._delete_before(EXAMPLES, number, offset)
        return ""

    def tail_cut(self, fault: Fault, *, regrown: bool = False) -> str:
        """Put an older copy of Kafka's messages in their place; a worker must refuse to go on from there."""
        old = self._system.broker.data_dir.with_name("kafka-old")
        with self._quiet():
            self._system.broker.stop()
            shutil.copytree(self._system.broker.data_dir / "logs", old)
            self._system.broker.start()
        self.recovered(time.time() * 1000)
        with self._quiet(), self._system.another_kafka():
            self._system.replace_messages(old)
            if regrown:
                self._load.resume()
                time.sleep(10)
                self._load.pause()
            return self._worker_refuses()

    def tail_regrown(self, fault: Fault) -> str:
        """Do the same, and let other events take the places of the lost ones."""
        return self.tail_cut(fault, regrown=True)

    def made_again(self, fault: Fault) -> str:
        """Delete all topics and make them again."""
        with self._quiet(), self._system.another_kafka():
            names = [self._settings.topic_prefix + topic for topic in ALL]
            with clients.admin_client(self._system.kafka, 30) as admin:
                admin.delete_topics(names)
                wait_for(lambda: not set(names) & set(admin.list_topics()), 30)
            create_topics(self._system.kafka, self._settings)
            return self._worker_refuses()

    def trim_events(self, fault: Fault) -> str:
        """Delete events that no worker has read."""
        hosts = self._system.stop_workers()
        time.sleep(5)
        with self._quiet(), self._system.another_kafka():
            for number in range(self._settings.partitions):
                self._delete_before("actions", number, -1)
            said = self._worker_refuses()
        for host in hosts:
            self._system.start_worker(host)
        return said

    def trim_unread_examples(self, fault: Fault) -> str:
        """Delete examples that the trainer has not read."""
        terminate(self._system.trainer)
        time.sleep(15)
        with self._quiet(), self._system.another_kafka():
            for number in range(self._settings.partitions):
                self._delete_before(EXAMPLES, number, -1)
            self._system.start_trainer()
            trainer = self._system.trainer
            said = wait_for(lambda: re.search(_GONE, trainer.log.read_text()), _REFUSAL_S)
            return "" if said else f"the trainer did not refuse: {trainer.last_words()}"

    def _worker_refuses(self) -> str:
        worker = self._system.start_worker(0)
        said = wait_for(lambda: _says(worker, _GONE), _REFUSAL_S)
        return "" if said else f"the worker did not refuse: {worker.child.last_words()}"

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        self._load.pause()
        try:
            yield
        finally:
            self._load.resume()

    def _delete_before(self, topic: str, partition: int, offset: int) -> None:
        name = self._settings.topic_prefix + topic

        def done() -> bool:
            with suppress(KafkaError):  # Kafka has just been started, and nobody leads yet
                asyncio.run(delete_before(self._system.broker.bootstrap, name, partition, offset))
                return True
            return False

        assert wait_for(done, 60), f"records of {name} cannot be deleted"


def _hang(pid: int, seconds: float) -> str:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)
    return ""


def _says(worker: Worker, pattern: str) -> bool:
    return re.search(pattern, worker.child.log.read_text()) is not None


FAULTS: Final[dict[str, Callable[[Chaos, Fault], str]]] = {
    "kill worker": Chaos.kill_worker,
    "kill trainer": Chaos.kill_trainer,
    "kill worker and trainer": Chaos.kill_both,
    "kill Kafka": Chaos.kill_kafka,
    "stop worker": Chaos.stop_worker,
    "stop trainer": Chaos.stop_trainer,
    "stop Kafka": Chaos.stop_kafka,
    "rolling restart": Chaos.rolling_restart,
    "join": Chaos.join,
    "leave": Chaos.leave,
    "move to another host": Chaos.move,
    "store deleted": Chaos.delete_store,
    "worker's clock": Chaos.workers_clock,
    "trainer's clock": Chaos.trainers_clock,
    "disk full": Chaos.disk_full,
    "poison": Chaos.poison,
    "fast client": Chaos.fast_client,
    "retention of examples": Chaos.trim_examples,
    "refusal: tail cut": Chaos.tail_cut,
    "refusal: tail cut, regrown": Chaos.tail_regrown,
    "refusal: topic made again": Chaos.made_again,
    "refusal: retention of events": Chaos.trim_events,
    "refusal: retention of examples": Chaos.trim_unread_examples,
}
