"""A worker reads on behind records that aiokafka cannot read: they are dead-letters, and nothing else changes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.schema.topics import SourceTopic
from tests.kafka_logs import read, until
from tests.raw_records import batch, produce, record
from tests.stream.worker.test_agents import all_ended, assert_exactly
from tests.wire import wire
from tests.worker_process import WorkerProcess, make_events, send

NAMELESS = [(b"hstu-replay", b"0"), (b"\xff\xfe", b"x")]


@pytest.mark.parametrize("pure", ["", "1"])
def test_a_header_without_a_readable_name_is_a_dead_letter(
    bootstrap: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pure: str
) -> None:
    """With aiokafka in C and in Python: its reason, place and bytes are told, it counts, and its neighbours join."""
    monkeypatch.setenv("AIOKAFKA_NO_EXTENSIONS", pure)
    settings = StreamSettings(topic_prefix=topic_prefix, partitions=4, idle_timeout_s=0)
    create_topics(Kafka(bootstrap), settings)
    events = make_events(40)
    odd = {source.topic: wire(events[source.topic][0]) for source in SourceTopic}
    for topic, value in odd.items():
        twice = record(b"odd", value, NAMELESS) + record(b"odd", value, NAMELESS)  # at one offset, by the producer
        assert produce(bootstrap, topic_prefix + topic, 1, batch(twice, 2)) == 0
    examples: list[list[Any]] = []

    async def run() -> None:
        await send(bootstrap, settings, events, end=True)
        with WorkerProcess(settings, tmp_path, bootstrap) as worker:
            await until(lambda: all_ended(bootstrap, settings), "the end of the log")
            counts = worker.metrics()["hstu_dead_letters_total"]
            assert {of: number for of, number in counts.items() if number} == {'partition="1",reason="unreadable"': 6.0}
            assert worker.stop() == 0, worker.says
        examples.extend(await read(bootstrap, topic_prefix + "examples", 4))

    asyncio.run(run())
    assert_exactly(examples, events, settings)
    letters = [letter for log in asyncio.run(read(bootstrap, topic_prefix + "dead-letters", 4)) for letter in log]
    found = {(told := dict(letter.headers))["id"].decode(): (told, letter) for letter in letters}
    assert set(found) == {f"{topic_prefix}{topic}/1/{offset}" for topic in odd for offset in (0, 1)}
    for told, letter in found.values():
        assert (letter.key, told["reason"]) == (b"odd", b"unreadable")
        assert letter.value == odd[told["topic"].decode().removeprefix(topic_prefix)]
        assert told["detail"].startswith(b"the name of a header is not UTF-8: b'\\xff\\xfe'")
