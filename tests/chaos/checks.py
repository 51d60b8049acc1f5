"""What must hold at the end: everything in Kafka's logs was joined and learned once, as one process would have done.

The sources are read back from Kafka, joined in memory and learned from in this process. Its three digests are those of
the trainer's last snapshot; its dead-letters are those in Kafka; no serial has two contents.
"""

import json
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from model.trainer.run import Training
from sim.config import Settings
from stream.config import StreamSettings
from stream.example import Example, decode
from stream.join.partition import Partition
from stream.operations.records import read_topic
from stream.schema.topics import DEAD_LETTERS, EXAMPLES, ITEMS, SourceTopic
from tests.memory_store import MemoryStore
from tests.wire import Record

Log = list[Any]
DIGESTS = ("sequences", "examples", "model")


@dataclass
class Verdict:
    """What was found at the end of a run."""

    events: int = 0
    targets: int = 0
    examples: int = 0
    repeats: int = 0
    """Examples in Kafka beyond the first of each serial."""
    two_contents: int = 0
    letters: int = 0
    wrong: list[str] = field(default_factory=list)
    """What does not hold, one sentence each."""


def judge(kafka: Any, settings: Settings, shown: Mapping[str, Any], folder: Path) -> Verdict:
    """Compare a run with one process.

    Args:
        kafka: Where the logs are.
        settings: Of the run.
        shown: `hstu snapshots show --json` of the trainer's last snapshot.
        folder: An empty folder for the process's own trainer.
    """
    logs = {topic: _log(kafka, settings.stream, topic) for topic in (*(s.topic for s in SourceTopic), ITEMS)}
    messages, letters = _joined(logs, settings.stream)
    digests, counts = _learned(messages, logs[ITEMS], settings, folder)
    found = {name: shown["digests"][name] for name in DIGESTS}
    verdict = Verdict(events=sum(map(len, (log for logs_p in logs.values() for log in logs_p))))
    verdict.targets, verdict.examples = shown["targets"], shown["examples"]
    for name in DIGESTS:
        if digests[name] != found[name]:
            verdict.wrong.append(f"digest of {name}: {found[name][:8]} where one process has {digests[name][:8]}")
    for name in ("targets", "examples"):
        if counts[name] != shown[name]:
            verdict.wrong.append(f"{shown[name]} {name} where one process has {counts[name]}")
    _check_examples(kafka, settings.stream, messages, verdict)
    _check_letters(kafka, settings.stream, letters, verdict)
    return verdict


def _log(kafka: Any, settings: StreamSettings, topic: str) -> list[Log]:
    """Return each partition's records in order."""
    logs: list[Log] = [[] for _ in range(settings.partitions)]
    for record in read_topic(kafka, settings.topic_prefix + topic):
        logs[record.partition].append(record)
    return logs


def _joined(logs: Mapping[str, list[Log]], settings: StreamSettings) -> tuple[list[list[bytes]], set[tuple[str, str]]]:
    """Join the sources in batches of any size; return each partition's examples, and (id, reason) of the letters."""
    messages: list[list[bytes]] = []
    letters: set[tuple[str, str]] = set()
    for number in range(settings.partitions):
        partition, rng = Partition(MemoryStore({}), number, settings), random.Random(number)
        left = {source: logs[source.topic][number] for source in SourceTopic}
        while left := {source: log for source, log in left.items() if log}:
            source, size = rng.choice(list(left)), rng.randint(1, 400)
            partition.handle(source, left[source][:size])
            left[source] = left[source][size:]
        out = partition.outbox.unsent()
        messages.append([outgoing.value for outgoing in out if outgoing.topic == EXAMPLES])
        letters |= {_identity(outgoing.headers) for outgoing in out if outgoing.topic == DEAD_LETTERS}
    return messages, letters


def _identity(headers: Sequence[tuple[str, bytes]]) -> tuple[str, str]:
    told = {name: value.decode() for name, value in headers}
    return f"{told['topic']}/{told['partition']}/{told['offset']}", told["reason"]


def _learned(
    messages: list[list[bytes]], items: list[Log], settings: Settings, folder: Path
) -> tuple[Mapping[str, str], Mapping[str, int]]:
    """Train in this process; return digests and counts."""
    partitions = settings.stream.partitions
    training = Training(
        folder,
        settings.train,
        settings.model,
        partitions=partitions,
        items_partitions=partitions,
        now=time.time,
        bounds=settings.stream.time_bounds,
    )
    left: list[tuple[Any, int, Log]] = [("items", number, log) for number, log in enumerate(items)]
    for number, log in enumerate(messages):
        left.append(("examples", number, [Record(offset, message) for offset, message in enumerate(log)]))
    while not training.ended and left:
        left = [(topic, number, log) for topic, number, log in left if log]
        for at, (topic, number, log) in enumerate(left):
            training.inbox.offer(topic, number, log[:200])
            left[at] = (topic, number, log[200:])
        while training.step():
            pass
    report = training.report
    digests = training.digests
    training.close()
    return digests, {name: report[name] for name in ("targets", "examples")}


def _check_examples(kafka: Any, settings: StreamSettings, expected: list[list[bytes]], verdict: Verdict) -> None:
    """Count repeated serials; every example in Kafka is the one that one process makes."""
    wanted = {
        (number, example.serial): message
        for number, log in enumerate(expected)
        for message in log
        if isinstance(example := decode(message), Example)
    }
    seen: dict[tuple[int, int], int] = defaultdict(int)
    for record in read_topic(kafka, settings.topic_prefix + EXAMPLES):
        example = decode(record.value)
        if isinstance(example, Example):
            place = record.partition, example.serial
            seen[place] += 1
            verdict.two_contents += wanted.get(place) != record.value
    verdict.repeats = sum(seen.values()) - len(seen)
    if verdict.two_contents:
        verdict.wrong.append(f"{verdict.two_contents} examples in Kafka are not those of one process")


def _check_letters(kafka: Any, settings: StreamSettings, expected: set[tuple[str, str]], verdict: Verdict) -> None:
    """Each refused record is in dead-letters, with its reason; nothing else of the events is."""
    sources = {settings.topic_prefix + source.topic for source in SourceTopic}
    found = {_identity(record.headers) for record in read_topic(kafka, settings.topic_prefix + DEAD_LETTERS)}
    found = {letter for letter in found if letter[0].split("/")[0] in sources}
    verdict.letters = len(found)
    if lost := expected - found:
        verdict.wrong.append(f"{len(lost)} refused records are not in dead-letters, such as {min(lost)}")
    if more := found - expected:
        verdict.wrong.append(f"{len(more)} dead-letters one process does not make, such as {min(more)}")


def orphans(folder: Path) -> list[str]:
    """Return the command lines of processes that work in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if any(str(folder) in word for word in words):
            found.append(json.dumps(words[:6]))
    return found
