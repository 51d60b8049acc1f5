"""A worker in its own process, which a test can ask, stop and kill; and events for it."""

import json
import random
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx

from stream.config import StreamSettings
from stream.schema.ids import partition_of
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import SourceTopic
from tests.kafka_logs import Message, fill
from tests.oracles import Wire
from tests.wire import REPLAYED, action, impression, wire

ROOT = Path(__file__).parent.parent
START_MS = 1_700_000_000_000
_CODE = """
import sys
from pathlib import Path

import httpx

from stream.worker.agents import run_worker
from stream.config import StreamSettings
from stream.errors import HstuError
from stream.kafka.connection import Kafka
settings, data_dir, bootstrap, name = sys.argv[1:]
try:
    run_worker(StreamSettings.model_validate_json(settings), Path(data_dir), Kafka(bootstrap), name)
except HstuError as error:
    sys.exit(str(error))
"""


class WorkerProcess:
    """One worker; ends with its with block."""

    def __init__(self, settings: StreamSettings, data_dir: Path, bootstrap: str, name: str = "w") -> None:
        self._log = data_dir / f"worker-{len(list(data_dir.glob('worker-*')))}.log"
        command = [
            sys.executable,
            "-W",
            "error",
            "-c",
            _CODE,
            settings.model_dump_json(),
            str(data_dir),
            bootstrap,
            name,
        ]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def says(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    @property
    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=40)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return the values of its metrics by name and labels; none while it does not serve them yet."""
        found = re.search(r"metrics on (http://\S+)", self.says)
        values: dict[str, dict[str, float]] = {}
        if found:
            with urllib.request.urlopen(found[1], timeout=10) as answer:
                for line in answer.read().decode().splitlines():
                    if not line.startswith("#"):
                        name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()  # type: ignore[union-attr]
                        values.setdefault(name, {})[labels or ""] = float(value)
        return values

    def probe(self, path: str) -> int:
        """Return the status of /live or /ready."""
        url = re.sub("metrics$", path, re.findall(r"metrics on (http://\S+)", self.says)[0])
        return httpx.get(url, timeout=10).status_code

    def places(self) -> dict[str, set[str]]:
        """Return the partitions that it polls, by source."""
        polled: dict[str, set[str]] = {}
        for labels in self.metrics().get("hstu_lag", {}):
            partition, source = re.findall(r'"(\w+)"', labels)
            polled.setdefault(source, set()).add(partition)
        return polled


def make_events(count: int, users: int = 30, seed: int = 0) -> dict[str, list[Wire]]:
    """Return impressions, actions and attributes in order of time, with a second between requests."""
    rng = random.Random(seed)
    events: dict[str, list[Wire]] = {source.topic: [] for source in SourceTopic}
    for n in range(count):
        user, ts = f"u{rng.randrange(users)}", START_MS + n * 1000
        slate = [f"i{item}" for item in rng.sample(range(50), 3)]
        events["impressions"].append(impression(user, f"r{n}", ts, *slate))
        if rng.random() < 0.6:
            events["actions"].append(action(user, rng.choice(slate), ts + 400, request_id=f"r{n}"))
        if rng.random() < 0.1:
            country = rng.choice(["NO", "DE", "FR"])
            events["attributes"].append({"user_id": user, "name": "country", "value": country, "ts": ts + 700})
    return events


def events_of_partition(events: dict[str, list[Wire]], partition: int, partitions: int) -> dict[str, list[Wire]]:
    """Return the events of the users of one partition."""
    return {
        topic: [event for event in wires if partition_of(event["user_id"].encode(), partitions) == partition]
        for topic, wires in events.items()
    }


async def send(
    bootstrap: str,
    settings: StreamSettings,
    events: dict[str, list[Wire]],
    *,
    end: bool,
    beat_ms: int | None = None,
    replayed: bool = True,
) -> None:
    """Send events, then a heartbeat to every partition of every source: the end of time, or another one."""
    for topic, wires in events.items():
        log = list(messages(wires, settings.partitions, end, beat_ms))
        await fill(bootstrap, settings.topic_prefix + topic, log, headers=REPLAYED if replayed else ())


def messages(wires: list[Wire], partitions: int, end: bool, beat_ms: int | None) -> Iterator[Message]:
    """Return the messages of one source."""
    for event in wires:
        key = event["user_id"].encode()
        yield partition_of(key, partitions), key, wire(event), 0
    if end or beat_ms is not None:
        beat = json.dumps({"watermark": END_OF_TIME_MS if end else beat_ms}).encode()
        yield from ((partition, None, beat, 0) for partition in range(partitions))
