"""How fresh and how soon answers are: clicks at wall-clock time through Kafka, a worker, a trainer and a server.

    fresh    from the sending of a click until a query reads it in the user's sequence
    first    from the first click of a new system until the server answers by the model
    request  one GET /topk over a connection that is kept open

Default settings; 30 users click on 200 items, 20 clicks a second.
"""

import argparse
import http.client
import json
import os
import platform
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaProducer

from sim.demo.processes import Child, stop_all
from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.local_broker.node import free_port, running_broker
from stream.store.reader import SequenceReader

USERS, ITEMS, CLICKS_A_SECOND = 30, 200, 20
GIVE_UP_S = 300.0


class Clicks:
    """Sends clicks to Kafka."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = KafkaProducer(bootstrap_servers=bootstrap)
        self._chance = random.Random(0)

    def send(self, user: str) -> None:
        """Send one click of a user on a random item, and wait until Kafka has it."""
        item = f"item-{self._chance.randrange(ITEMS)}"
        event = {"user_id": user, "item_id": item, "action": "click", "ts": time.time_ns() // 1_000_000}
        self._producer.send("actions", key=user.encode(), value=json.dumps(event).encode()).get(10)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Send clicks of all users while the block runs."""
        stopped = threading.Event()

        def run() -> None:
            while not stopped.wait(1 / CLICKS_A_SECOND):
                self.send(f"user-{self._chance.randrange(USERS)}")

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            self._producer.close()


class Server:
    """One connection to the server, kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def source(self, user: str) -> str:
        """Return what answers a user now: the model, popularity, or nothing yet."""
        try:
            self._connection.request("GET", f"/topk?user={user}")
            response = self._connection.getresponse()
            answer = json.loads(response.read())
            return str(answer["source"]) if response.status == 200 else ""
        except OSError:
            self._connection.close()
            return ""


def seconds_until(holds: Callable[[], bool], every_s: float) -> float:
    """Return how long it takes until something holds."""
    start_s = time.perf_counter()
    while not holds():
        if time.perf_counter() - start_s > GIVE_UP_S:
            raise SystemExit(f"Nothing came within {GIVE_UP_S:g} s; see the logs.")
        time.sleep(every_s)
    return time.perf_counter() - start_s


def fresh_s(clicks: Clicks, reader: SequenceReader, number: int) -> float:
    """Return the seconds until a new user's first click is in the sequence that a query reads."""
    start_s = time.perf_counter()
    clicks.send(f"probe-{number}")
    seconds_until(lambda: reader.tokens(f"probe-{number}", 1) is not None, 0.002)
    return time.perf_counter() - start_s


def request_s(server: Server) -> float:
    start_s = time.perf_counter()
    server.source("user-0")
    return time.perf_counter() - start_s


def measure(folder: Path, probes: int) -> dict[str, list[float]]:
    """Start everything, measure, and stop it."""
    port, settings = free_port(), StreamSettings()
    with running_broker(folder / "broker") as bootstrap:
        create_topics(Kafka(bootstrap), settings)
        environment = {"HSTU_BOOTSTRAP": bootstrap, "HSTU_DATA_DIR": str(folder / "data")}
        verbs = {"worker": ["worker"], "train": ["train", "--quiet"], "serve": ["serve", "--port", str(port)]}
        children = [Child(name, verb, folder / "logs", environment) for name, verb in verbs.items()]
        clicks, server = Clicks(bootstrap), Server(port)
        try:
            seconds_until(lambda: "Metrics on" in (folder / "logs" / "train.log").read_text(), 0.1)
            with clicks.going_on():
                first = seconds_until(lambda: server.source("user-0") == "model", 0.1)
                reader = SequenceReader(folder / "data", settings)
                fresh = [fresh_s(clicks, reader, number) for number in range(probes)]
                requests = [request_s(server) for _ in range(probes)]
                reader.close()
        finally:
            stop_all(children)
    return {"fresh": fresh, "first": [first], "request": requests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=100)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), given.probes)
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    machine += f", load {os.getloadavg()[0]:.1f}"
    print(f"{CLICKS_A_SECOND} clicks/s of {USERS} users; {machine}; {time.strftime('%Y-%m-%d')}")
    for what, seconds in found.items():
        print(f"{what:8}{statistics.median(seconds):8.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")
    if given.save:
        path = given.save / f"freshness_{os.cpu_count()}cpu_{time.strftime('%Y-%m-%d')}.json"
        path.write_text(json.dumps({"seconds": found, "machine": machine}, indent=1))


if __name__ == "__main__":
    main()
