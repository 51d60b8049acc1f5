"""Taking a partition over on another host: by backup, beside a replay of all its events.

    replay    a worker with an empty data directory and no backups
    backup    the same, where the store of before was backed up

Both are `hstu worker` in its own process, timed from its start until it has handled every event, a hundredth of which
came after the last backup. Bytes are those that backups copied: the first, and the next after a hundredth more events.
Kafka is HSTU_BOOTSTRAP's, or one started for the run; backups go to a folder of the same disk.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer
from ingest import make_events

from stream.backup.by_hand import backups_of
from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.schema.record_time import replay_headers
from stream.schema.topics import SourceTopic
from stream.store.rocksdb import open_store, partition_path
from tests.kafka import kafka_for_tests

GIVE_UP_S = 1800.0
EVENTS_A_REQUEST = 1.65


class Log:
    """Events in Kafka, which grow."""

    def __init__(self, bootstrap: str, settings: StreamSettings, events: int) -> None:
        self._bootstrap, self._settings, self.count = bootstrap, settings, 0
        self._events = make_events(int(1.2 * events / EVENTS_A_REQUEST))

    async def grow(self, events: int) -> None:
        """Send this many events, then heartbeats."""
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, linger_ms=20, max_batch_size=256 << 10)
        await producer.start()
        replayed, prefix = list(replay_headers(0)), self._settings.topic_prefix
        for _ in range(events):
            source, user, event = next(self._events)
            value = json.dumps(event).encode()
            await producer.send(prefix + source.topic, value, key=user.encode(), headers=replayed)
        beat = json.dumps({"watermark": event["ts"]}).encode()
        for source in SourceTopic:
            for partition in range(self._settings.partitions):
                await producer.send(prefix + source.topic, beat, partition=partition, headers=replayed)
        await producer.stop()
        self.count += events


@contextmanager
def worker(bootstrap: str, settings: StreamSettings, folder: Path) -> Iterator[Path]:
    """Run a worker; yield its log."""
    folder.mkdir(exist_ok=True)
    tables = {f"HSTU_STREAM__{key.upper()}": str(value) for key, value in settings.model_dump().items()}
    command = [sys.executable, "-m", "sim.main", "worker", "--bootstrap", bootstrap, "--data-dir", str(folder)]
    path = folder / "worker.log"
    with path.open("w") as out:
        process = subprocess.Popen(command, env=os.environ | tables, stderr=out, stdout=out)
    try:
        yield path
    finally:
        process.terminate()
        process.wait()


def wait_for_events(log: Path, count: int) -> float:
    """Wait until a worker has handled so many; return for how long."""
    start = time.perf_counter()
    while time.perf_counter() - start < GIVE_UP_S:
        time.sleep(0.1)
        if (found := re.search(r"metrics on (http://\S+)", log.read_text())) and handled(found[1]) == count:
            return time.perf_counter() - start
    raise TimeoutError(log.read_text())


def handled(url: str) -> float:
    """Return how many events the stores of a worker have taken."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("hstu_events_total"))


def back_up(settings: StreamSettings, folder: Path) -> tuple[int, int, float]:
    """Back up the stores of a data directory; return their bytes, the bytes copied, and seconds."""
    start, size, copied = time.perf_counter(), 0, 0
    for backups in backups_of(settings, None):
        store = open_store(partition_path(folder, backups.number))
        store.checkpoint(folder / "checkpoint")
        store.close()
        saved = backups.save(folder / "checkpoint")
        assert saved is not None
        size, copied = size + saved.manifest.size, copied + saved.copied
    return size, copied, time.perf_counter() - start


def measure(bootstrap: str, folder: Path, events: int) -> dict[str, float]:
    """Return seconds and bytes, for so many events and a hundredth more, twice."""
    prefix, more = f"backup-{os.getpid()}-{events}-", events // 100
    plain = StreamSettings(topic_prefix=prefix, partitions=2, idle_timeout_s=0)
    backed = plain.model_copy(update={"backup_url": str(folder / "backups"), "backup_s": 1e6})
    create_topics(Kafka(bootstrap), plain)
    log, row = Log(bootstrap, plain, events + 2 * more), dict[str, float]()
    for name, count in (("full", events), ("incremental", more)):
        asyncio.run(log.grow(count))
        with worker(bootstrap, plain, folder / "first") as first:
            wait_for_events(first, log.count)
        row["store_bytes"], row[f"{name}_bytes"], row[f"{name}_s"] = back_up(backed, folder / "first")
    asyncio.run(log.grow(more))
    for name, settings in (("replay_s", plain), ("backup_s", backed)):
        with worker(bootstrap, settings, folder / name) as process:
            row[name] = wait_for_events(process, log.count)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    rows: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, kafka_for_tests(Path(name) / "kafka") as kafka:
        for events in given.events:
            folder = Path(name) / str(events)
            folder.mkdir()
            rows[events] = measure(kafka.bootstrap, folder, events)
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    machine += f", load {os.getloadavg()[0]:.1f}"
    print(f"2 partitions, {kafka.description}; {machine}; {time.strftime('%Y-%m-%d')}")
    print(
        f"{'events':>12}{'replay s':>10}{'backup s':>10}{'ratio':>7}{'store MB':>10}{'full MB':>9}{'1 % more MB':>13}"
    )
    for events, row in rows.items():
        mb = [row[name] / 1e6 for name in ("store_bytes", "full_bytes", "incremental_bytes")]
        print(
            f"{events:>12,}{row['replay_s']:>10.1f}{row['backup_s']:>10.1f}{row['replay_s'] / row['backup_s']:>7.1f}",
            end="",
        )
        print(f"{mb[0]:>10.1f}{mb[1]:>9.1f}{mb[2]:>13.1f}")
    if given.save:
        path = given.save / f"backup_{os.cpu_count()}cpu_{time.strftime('%Y-%m-%d')}.json"
        path.write_text(json.dumps({"rows": rows, "machine": machine, "kafka": kafka.description}, indent=1))


if __name__ == "__main__":
    main()
