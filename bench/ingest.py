"""Events/s of a real worker, store and joiner included, beside a plain loop over the same topics.

    plain     aiokafka getmany, typed msgspec decode, one RocksDB put per event, one WriteBatch per batch: the least
              that any worker must do
    agents    the same work in Faust agents, through stream/transport.py
    core      Partition.handle of the same records, from memory: what joining, sequences and examples cost
    worker    `hstu worker` in its own process, until its examples are in Kafka; its start-up is told apart

python bench/ingest.py. The rows are measured in turns, several times, on one machine in one run, each from its first
batch on. Kafka is HSTU_BOOTSTRAP's, or one started for the run.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rocksdict import Options, Rdict, WriteBatch

from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.schema.events import decode_event
from stream.schema.record_time import replay_headers
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import SourceTopic
from stream.store.rocksdb import open_store, partition_path
from stream.transport import make_batch_app, serve
from tests.kafka import kafka_for_tests

POLL = 5000
Logs = dict[tuple[SourceTopic, int], list[Any]]


def make_events(requests: int, seed: int = 0) -> Iterator[tuple[SourceTopic, str, dict[str, Any]]]:
    """Yield requests of five items a second apart by 2000 users; three in five are clicked."""
    rng = random.Random(seed)
    for n in range(requests):
        user, ts = f"user-{rng.randrange(2000)}", 1_700_000_000_000 + n * 1000
        slate = [f"item-{rng.randrange(5000)}-{slot}" for slot in range(5)]
        yield SourceTopic.IMPRESSIONS, user, {"user_id": user, "request_id": f"r{n}", "ts": ts, "items": slate}
        if rng.random() < 0.6:
            item = rng.choice(slate)
            yield SourceTopic.ACTIONS, user, {"user_id": user, "item_id": item, "action": "click", "ts": ts + 400}
        if rng.random() < 0.05:
            country = rng.choice(["NO", "DE", "FR"])
            yield SourceTopic.ATTRIBUTES, user, {"user_id": user, "name": "country", "value": country, "ts": ts + 700}


async def fill(bootstrap: str, settings: StreamSettings, requests: int) -> int:
    """Write the events and, now and then, heartbeats as replay does; return the number of events."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=256 << 10)
    await producer.start()
    count, last, replayed = 0, 0, list(replay_headers(0))

    async def beat(ms: int) -> None:
        for source in SourceTopic:
            for partition in range(settings.partitions):
                value = json.dumps({"watermark": ms}).encode()
                await producer.send(settings.topic_prefix + source.topic, value, partition=partition, headers=replayed)

    for source, user, event in make_events(requests):
        value = json.dumps(event).encode()
        await producer.send(settings.topic_prefix + source.topic, value, key=user.encode(), headers=replayed)
        count += 1
        if event["ts"] - last > 1_000_000:
            last = event["ts"]
            await beat(last)
    await beat(END_OF_TIME_MS)
    await producer.stop()
    return count


async def consume(bootstrap: str, settings: StreamSettings, db: Rdict | None) -> tuple[Logs, float]:
    """Read all topics to their ends: decode and put each event, or keep the records; return the seconds it took."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, max_partition_fetch_bytes=1 << 20)
    await consumer.start()
    names = {settings.topic_prefix + source.topic: source for source in SourceTopic}
    places = [TopicPartition(name, p) for name in names for p in range(settings.partitions)]
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    ends, logs = await consumer.end_offsets(places), {(names[t.topic], t.partition): [] for t in places}
    left, start = sum(ends.values()), 0.0
    while left:
        polled = await consumer.getmany(timeout_ms=1000, max_records=POLL)
        start = start or time.perf_counter()
        for place, records in polled.items():
            left -= len(records)
            if db is None:
                logs[names[place.topic], place.partition] += records
            else:
                put(db, names[place.topic], place.partition, records)
    took = time.perf_counter() - start
    await consumer.stop()
    return logs, took


def put(db: Rdict, source: SourceTopic, partition: int, records: list[Any]) -> None:
    """Decode a batch, put its events, and remember the next offset, in one WriteBatch."""
    batch, place = WriteBatch(raw_mode=True), f"{source}-{partition}".encode()
    for record in records:
        decode_event(source, record.value, max_slate=200, now_ms=None)
        batch.put(place + record.offset.to_bytes(8), record.value)
    batch.put(place, (records[-1].offset + 1).to_bytes(8))
    db.write(batch)


def plain(bootstrap: str, settings: StreamSettings, folder: Path) -> float:
    """Return the seconds of the plain loop."""
    db = Rdict(str(folder / "plain"), Options(raw_mode=True))
    try:
        return asyncio.run(consume(bootstrap, settings, db))[1]
    finally:
        db.close()


class _Beginning:
    """A StateOwner that reads everything from the beginning."""

    way_on = "begin again."
    compacted = ()

    async def open(self, topic: str, partition: int) -> None: ...

    def last_read(self, topic: str, partition: int) -> None: ...

    def start_at(self, topic: str, partition: int, offset: int) -> None: ...

    def begun(self, topic: str, partition: int, known: int | None) -> None: ...

    def doubted(self) -> None: ...

    def passed(self, topic: str, partition: int, offset: int) -> None: ...

    async def revoked(self, partitions: Any) -> None: ...

    async def close(self) -> None: ...


def agents(bootstrap: str, settings: StreamSettings, folder: Path, records: int) -> float:
    """Return the seconds of the plain loop's work in Faust agents."""
    db = Rdict(str(folder / "agents"), Options(raw_mode=True))

    times: list[float] = []

    async def run() -> None:
        app = make_batch_app(
            f"{settings.topic_prefix}agents", Kafka(bootstrap), _Beginning(), datadir=folder / "f", poll_records=POLL
        )
        left = records

        async def take(source: SourceTopic, partition: int, batch: Any) -> None:
            nonlocal left
            times.append(time.perf_counter())
            put(db, source, partition, batch)
            left -= len(batch)
            if not left:
                times.append(time.perf_counter())
                app.finish()

        for source in SourceTopic:
            app.batches(settings.topic_prefix + source.topic)(partial(take, source))
        await serve(app)

    asyncio.run(run())
    db.close()
    return times[-1] - times[0]


def core(logs: Logs, settings: StreamSettings, folder: Path) -> float:
    """Return the seconds that the cores of all partitions take for records in memory; the outbox goes nowhere."""
    took = 0.0
    for number in range(settings.partitions):
        partition = Partition(open_store(partition_path(folder, number)), number, settings)
        start = time.perf_counter()
        for at in range(0, max(len(logs[source, number]) for source in SourceTopic), POLL):
            for source in SourceTopic:
                if records := logs[source, number][at : at + POLL]:
                    partition.handle(source, records)
                    if waiting := partition.outbox.unsent():
                        partition.outbox.sent(waiting[-1].number)
        took += time.perf_counter() - start
        partition.close()
    return took


def worker(bootstrap: str, settings: StreamSettings, folder: Path) -> tuple[float, float]:
    """Return the seconds from a worker's start to its first batch, and from there until all of it is in Kafka."""
    tables = {f"HSTU_STREAM__{key.upper()}": str(value) for key, value in settings.model_dump().items()}
    command = [sys.executable, "-m", "sim.main", "worker", "--bootstrap", bootstrap, "--data-dir", str(folder)]
    log = folder / "worker.log"
    with log.open("w") as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=os.environ | tables, stderr=out, stdout=out)
    try:
        first = 0.0
        while True:
            time.sleep(0.05 if not first else 0.25)
            events, left = progress(log.read_text())
            first = first or (time.perf_counter() if events else 0.0)
            if first and not left:
                return first - start, time.perf_counter() - first
            if process.poll() is not None or time.perf_counter() - start > 120:
                raise SystemExit(f"The worker has ended or hangs:\n{log.read_text()}")
    finally:
        process.terminate()
        process.wait()


def progress(said: str) -> tuple[float, float]:
    """Return a worker's events handled, and what is left: messages unread, records unsent, unknown partitions."""
    found = re.search(r"metrics on (http://\S+)", said)
    if not found:
        return 0.0, 1.0
    with urllib.request.urlopen(found[1]) as answer:
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
    totals = {
        name: sum(float(v) for k, v in lines if k.startswith(name)) for name in ("hstu_events_total", "hstu_lag{")
    }
    unsent = sum(float(v) for k, v in lines if k.startswith("hstu_outbox"))
    known = sum(k.startswith("hstu_lag{") for k, _ in lines)
    return totals["hstu_events_total"], totals["hstu_lag{"] + unsent + (known == 0 or known % len(SourceTopic))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    settings = StreamSettings(topic_prefix=f"bench{os.getpid()}-", idle_timeout_s=0)
    with tempfile.TemporaryDirectory() as name, kafka_for_tests(Path(name) / "kafka") as kafka:
        create_topics(Kafka(kafka.bootstrap), settings)
        events = asyncio.run(fill(kafka.bootstrap, settings, given.requests))
        logs, _ = asyncio.run(consume(kafka.bootstrap, settings, None))
        rates: dict[str, list[float]] = {"plain": [], "agents": [], "core": [], "worker": []}
        starts: list[float] = []
        for repeat in range(given.repeats):
            folder = Path(name) / str(repeat)
            folder.mkdir()
            rates["plain"].append(events / plain(kafka.bootstrap, settings, folder))
            records = sum(map(len, logs.values()))
            rates["agents"].append(events / agents(kafka.bootstrap, settings, folder, records))
            rates["core"].append(events / core(logs, settings, folder / "core"))
            start_s, took = worker(kafka.bootstrap, settings, folder)
            rates["worker"].append(events / took)
            starts.append(start_s)
    show(rates, starts, events, kafka.description, given.save)


def show(rates: dict[str, list[float]], starts: list[float], events: int, kafka: str, save: Path | None) -> None:
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    machine += f", load {os.getloadavg()[0]:.1f}"
    print(f"{events:,} events in 4 partitions, {kafka}; {machine}; {time.strftime('%Y-%m-%d')}")
    print(f"{'':8}{'events/s min':>14}{'median':>12}{'max':>12}{'of plain':>10}{'of core':>10}")
    medians = {name: statistics.median(own) for name, own in rates.items()}
    for name, own in rates.items():
        cells = f"{min(own):>14,.0f}{medians[name]:>12,.0f}{max(own):>12,.0f}"
        print(f"{name:8}{cells}{medians[name] / medians['plain']:>10.2f}{medians[name] / medians['core']:>10.2f}")
    print(f"start of a worker to its first batch: {min(starts):.2f} to {max(starts):.2f} s")
    if save:
        figures = {"events": events, "events_per_s": rates, "start_s": starts, "machine": machine, "kafka": kafka}
        path = save / f"ingest_{os.cpu_count()}cpu_{time.strftime('%Y-%m-%d')}.json"
        path.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
