"""Kafka, a worker, a trainer and a server as processes, with a warm start: for keep_up.py.

Warm: the trainer begins with a checkpoint and the server with a snapshot that know all items (no pairs of them yet),
and the worker's stores hold a token of each user.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from asking import Connections
from live_events import DAY_MS, ITEM_SHIFT, Zipf
from watching import Watch, scraped

from model.trainer.run import Training
from sim.config import load
from sim.demo.processes import Child, stop_all
from stream.example import id_key
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.local_broker.node import Broker, free_port

HERE = Path(__file__).parent
GIVE_UP_S = 1800.0


@dataclass
class Sizes:
    """How much there is."""

    users: int
    items: int
    slate: int
    clicks: float  # a slate


@dataclass
class System:
    """What runs, and how it is reached."""

    bootstrap: str
    server_port: int
    watch: Watch
    ready_s: dict[str, float]  # from the start of a process until it works


def make_warm(items: int) -> None:
    """Write a checkpoint and a snapshot of a trainer that knows all items, by the settings of the environment."""
    settings, born_ms = load(), int(1000 * time.time()) - DAY_MS
    training = Training(
        *(settings.data_dir, settings.train, settings.model),
        partitions=settings.stream.partitions,
        items_partitions=settings.stream.partitions,
        bounds=settings.stream.time_bounds,
        now=time.time,
        beside=False,
    )
    learner, names = training.learner, [f"item-{row}" for row in range(items)]
    keys = np.array([id_key(name) for name in names], np.uint64)
    learner.items.admit(keys, np.full(items, born_ms))
    learner.items.learn_texts(keys.tolist(), names)
    learner.features.admit(np.array([id_key("click")], np.uint64), np.full(1, born_ms))
    learner.weights.grow(learner.items.keys, len(learner.features))
    rows = np.concatenate((np.arange(items), Zipf(items, ITEM_SHIFT, 0).draw(items)))
    learner.popularity.add(rows, np.full(len(rows), born_ms))
    training._report.event_ms = born_ms
    training.checkpoint()
    training.snapshot()
    training.close()


@contextmanager
def running(folder: Path, sizes: Sizes, chosen: dict[str, str]) -> Iterator[System]:
    """Start Kafka, make all warm, start the rest, and stop it at the end."""
    children: list[Child] = []
    with ExitStack() as stack:
        broker = Broker(folder / "kafka")
        stack.callback(broker.stop)
        chosen = chosen | {"bootstrap": broker.start(GIVE_UP_S), "data_dir": str(folder / "data")}
        chosen |= {f"{part}.metrics_port": str(free_port()) for part in ("stream", "train")}
        environment = {f"HSTU_{key.upper().replace('.', '__')}": value for key, value in chosen.items()}
        os.environ.update(environment)
        settings = load()
        create_topics(Kafka(broker.bootstrap), settings.stream, GIVE_UP_S)
        stack.callback(lambda: stop_all(children))

        def begin(name: str, *verb: str) -> int:
            children.append(Child(name, verb, folder / "logs", environment))
            return children[-1].pid

        def until(what: str, holds: Callable[[], bool]) -> float:
            return _until(what, holds, children)

        own("live_system.py", str(sizes.items))
        worker_port, trainer_port, server_port = settings.stream.metrics_port, settings.train.metrics_port, free_port()
        pids = {"kafka": broker.pid, "worker": begin("worker", "worker")}
        ready_s = {"worker": until("the worker", lambda: bool(scraped(worker_port)))}
        own("live_events.py", broker.bootstrap, "--known", "--users", str(sizes.users))
        until("the users' tokens", lambda: scraped(worker_port).get("hstu_tokens", 0) >= 0.99 * sizes.users)
        pids["server"] = begin("serve", "serve", "--port", str(server_port))
        ready_s["server"] = until("the server", lambda: asyncio.run(_answers(server_port)))
        pids["trainer"] = begin("train", "train", "--quiet")
        ready_s["trainer"] = until("the trainer", lambda: "hstu_steps" in scraped(trainer_port))
        yield System(broker.bootstrap, server_port, Watch(worker_port, trainer_port, pids, folder), ready_s)


@contextmanager
def sending(bootstrap: str, rate: float, sizes: Sizes, seed: int) -> Iterator[int]:
    """Send events while the block runs; yield the process's id."""
    flags = ["--rate", str(rate), "--seed", str(seed)]
    for name in ("users", "items", "slate", "clicks"):
        flags += [f"--{name}", str(getattr(sizes, name))]
    process = subprocess.Popen([sys.executable, str(HERE / "live_events.py"), bootstrap, *flags])
    try:
        yield process.pid
        if process.poll() is not None:
            raise SystemExit("What sends the events has ended.")
    finally:
        process.terminate()
        process.wait()


def own(script: str, *flags: str) -> None:
    """Run a script of this folder to its end."""
    subprocess.run([sys.executable, str(HERE / script), *flags], check=True)


def _until(what: str, holds: Callable[[], bool], children: Sequence[Child]) -> float:
    """Return how long it takes until something holds."""
    begun_s = time.time()
    while not holds():
        for child in children:
            child.check()
        if time.time() - begun_s > GIVE_UP_S:
            raise SystemExit(f"Waited {GIVE_UP_S:g} s for {what}; see the logs.")
        time.sleep(0.1)
    return time.time() - begun_s


async def _answers(port: int) -> bool:
    try:
        return await Connections(port).get("/topk?user=user-0") is not None
    except OSError:
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a checkpoint and a snapshot that know so many items.")
    parser.add_argument("items", type=int)
    make_warm(parser.parse_args().items)
