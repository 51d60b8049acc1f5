"""`hstu topics rescale` on a real Kafka: killed anywhere it goes on, and where it cannot, one sentence says why."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stream.config import KafkaSettings, StreamSettings
from stream.errors import HstuError, StoreError
from stream.example import END_OF_TIME_MS, Example, Heartbeat, decode
from stream.join.partition import Partition
from stream.kafka.connection import Kafka
from stream.rescale import rescale as steps
from stream.rescale.cli import rescale
from stream.rescale.rescale import Rescale
from stream.schema.record_time import rescaled
from stream.schema.topics import EVENTS, ITEMS, SourceTopic
from stream.store.rocksdb import open_store, partition_path
from tests.kafka_logs import fill, make_topics, read, until
from tests.memory_store import CrashError
from tests.oracles import Wire, join
from tests.stream.rescale.workers import HALF_MS, Workers, fill_items, more
from tests.wire import REPLAYED, wire
from tests.worker_process import ROOT, WorkerProcess, make_events, send


def halves(events: dict[str, list[Wire]]) -> list[dict[str, list[Wire]]]:
    """Return the events before and after HALF_MS."""
    return [
        {topic: [event for event in log if (event["ts"] >= HALF_MS) == late] for topic, log in events.items()}
        for late in (False, True)
    ]


def crashes(patch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Yield what to give as `say`, so that a rescale ends at another moment each time: the first after the copies."""

    def crash_at(word: str) -> Callable[[str], None]:
        def say(line: str) -> None:
            if line.startswith(word):
                raise CrashError

        return say

    def crash(*_: Any) -> None:
        raise CrashError

    yield crash_at("items")
    yield crash_at("partition 0")
    with patch.context() as broken:
        broken.setattr(steps, "new_metas", crash)  # the new topics have begun
        yield print
    with patch.context() as broken:
        broken.setattr(Rescale, "_swap", crash)  # the new stores are whole
        yield print
    with patch.context() as broken:
        broken.setattr(Path, "rename", once(Path.rename))
        yield print  # the old stores are moved away, and the new ones not yet in their place


def once(rename: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    """Return what moves the old stores away, and nothing else."""

    def renamed(path: Path, target: Path) -> Path:
        if target.name == "store":
            raise CrashError
        return rename(path, target)

    return renamed


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_anywhere_it_goes_on_and_every_user_with_it(
    bootstrap: str, old: StreamSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Sequences are those of all events, each target is in one example, and no record of the new topics is twice."""
    events, new = make_events(60, users=12), more(old)
    early, late = halves(events)
    asyncio.run(send(bootstrap, old, early, end=False, beat_ms=HALF_MS - 1000))
    asyncio.run(fill_items(bootstrap, old))
    before = Workers(bootstrap, old, tmp_path)
    before.work()
    waiting = before.tokens()
    for say in islice(crashes(monkeypatch), times):
        with pytest.raises(CrashError):
            before.rescale(new, say)
    assert before.rescale(new)
    assert before.rescale(new), "once more is harmless"

    assert {path.name for path in tmp_path.iterdir() if "store" in path.name or "resc" in path.name} == {
        *("store", "store-of-2-partitions")
    }
    after = Workers(bootstrap, new, tmp_path)
    assert after.tokens() == waiting
    for topic in EVENTS:
        logs = asyncio.run(read(bootstrap, new.topic_prefix + topic, 3))
        assert [[rescaled(record) for record in log] for log in logs] == [
            [f"2 partitions under the prefix '{old.topic_prefix}'"]
        ] * 3
    copied = [record for log in asyncio.run(read(bootstrap, new.topic_prefix + ITEMS, 3)) for record in log]
    titles = {record.key.decode(): record.value and json.loads(record.value)["title"] for record in copied}
    assert titles == {"i0": "t6", "i1": None, "i2": "t8", "i3": "t3", "i4": "t4", "i5": "t5"}
    assert len(copied) == 6
    assert [name for record in copied if record.value is None for name, _ in record.headers] == ["hstu-replay"]

    asyncio.run(send(bootstrap, new, late, end=True))
    after.work()
    expected = join(events, old, 0)
    assert after.tokens() == {user: tokens for user, tokens in expected.tokens.items() if tokens}
    assert targets(before.examples + after.examples) == targets(expected.examples)


def targets(examples: list[Example]) -> Counter[tuple[int, int, int]]:
    """Count the targets by user, request and position."""
    return Counter(
        (example.user, int(request), example.first + int(position))
        for example in examples
        for request, position in zip(example.requests, example.positions, strict=True)
    )


def test_where_it_cannot_be_done_it_says_why_and_changes_nothing(
    bootstrap: str, old: StreamSettings, tmp_path: Path
) -> None:
    """One sentence for each reason, and the way on; a plan that is not agreed to is none."""
    new, workers = more(old), Workers(bootstrap, old, tmp_path)

    def refused(why: str, to: StreamSettings = new) -> None:
        with pytest.raises(HstuError, match=why):
            workers.rescale(to)

    refused(r"There are 2 partitions .* already: --partitions has to be more", more(old, 2))
    refused(r"have the prefix .*another --topic-prefix", old.model_copy(update={"partitions": 3}))
    refused(r"There is no store of partition 0 in .*hstu store restore here")
    asyncio.run(send(bootstrap, old, make_events(20), end=False, beat_ms=HALF_MS))
    workers.work()
    settings = SimpleNamespace(bootstrap=bootstrap, kafka=KafkaSettings(), data_dir=tmp_path, stream=old)
    app, context = typer.Typer(), SimpleNamespace(load=lambda flags: settings)
    app.command()(rescale)
    flags = ["--partitions", "3", "--topic-prefix", new.topic_prefix]
    plan = f"From 2 to 3 partitions: {len(workers.tokens())} users, "
    held = open_store(partition_path(tmp_path, 1))
    refused(r"is open in process \d+")
    done = CliRunner().invoke(app, [*flags, "--dry-run"], obj=context)
    assert (done.exit_code, plan in done.stdout, "Go on?" in done.stdout) == (0, True, False), done.output
    held.close()
    done = CliRunner().invoke(app, flags, input="n\n", obj=context)
    assert (done.exit_code, plan in done.stdout, "Go on? [y/N]" in done.stdout) == (1, True, True), done.output
    assert not list(tmp_path.glob("resc*"))
    asyncio.run(make_topics(bootstrap, [f"{new.topic_prefix}actions"], 3))
    beat = [(0, None, wire({"watermark": HALF_MS}), 0)]
    asyncio.run(fill(bootstrap, f"{new.topic_prefix}actions", beat))
    refused(rf"The topic {new.topic_prefix}actions is not empty.*another --topic-prefix")
    asyncio.run(fill(bootstrap, f"{old.topic_prefix}impressions", beat, headers=REPLAYED))
    done = CliRunner().invoke(app, [*flags, "--dry-run"], obj=context)
    assert (plan in done.stdout, type(done.exception)) == (True, StoreError), "what it costs, and why not now"
    refused(r"impressions\[0\] has records from offset \d+ on that its store .* has not handled: stop the producers")
    workers.work()

    def produce(line: str) -> None:
        if line.startswith("items"):
            asyncio.run(fill(bootstrap, f"{old.topic_prefix}impressions", beat, headers=REPLAYED))

    with pytest.raises(HstuError, match=r"impressions\[0\] has records .*: stop the producers"):
        workers.rescale(more(old, 4), produce)
    assert workers.tokens(), "the stores are in their place"


def test_folders_of_an_earlier_rescale_are_not_written_over(tmp_path: Path) -> None:
    """Neither kept stores nor those that a worker made in the moment of the swap; the sentence says which to move."""
    old = StreamSettings(partitions=2)
    work = Rescale(Kafka("localhost:1"), old, tmp_path, 3, "3-")
    assert not work.finish()
    path = partition_path(tmp_path, 0)
    partition = Partition(open_store(path), 0, old)
    partition.handle(SourceTopic.ACTIONS, [])
    partition.close()
    work.kept.mkdir()
    with pytest.raises(StoreError, match=f"^{work.kept} is there from an earlier rescale; move it away"):
        work.finish()
    (tmp_path / "rescaling" / "store").mkdir(parents=True)
    with pytest.raises(StoreError, match=rf"a worker has made {tmp_path}/store before.*move that folder away"):
        work.finish()
    assert path.exists()


_KILLED = """
import os, signal, sys
from pathlib import Path

from stream.config import KafkaSettings, StreamSettings
from stream.kafka.connection import Kafka
from stream.rescale.rescale import Rescale
settings, data_dir, bootstrap, partitions, prefix, word = sys.argv[1:]
def say(line):
    if line.startswith(word):
        os.kill(os.getpid(), signal.SIGKILL)
old = StreamSettings.model_validate_json(settings)
Rescale(Kafka(bootstrap), old, Path(data_dir), int(partitions), prefix).run(lambda plan: True, say)
"""


@pytest.mark.slow
def test_workers_go_on_with_live_events_after_a_kill(bootstrap: str, old: StreamSettings, tmp_path: Path) -> None:
    """Heartbeats of workers bring the partitions to one time; a worker without a store does not begin anew."""
    old = old.model_copy(update={"idle_timeout_s": 1})
    new = more(old).model_copy(update={"idle_timeout_s": 0})
    events = make_events(60, users=12)
    early, late = halves(events)
    asyncio.run(send(bootstrap, old, early, end=False, replayed=False))
    with WorkerProcess(old, tmp_path, bootstrap) as worker:
        asyncio.run(until(lambda: at_one_time(bootstrap, old, HALF_MS - 5000), "all partitions at one time"))
        assert worker.stop() == 0, worker.says
    before = Workers(bootstrap, old, tmp_path)
    for word in ("partition 0", "items"):
        arguments = (old.model_dump_json(), str(tmp_path), bootstrap, "3", new.topic_prefix, word)
        ended = subprocess.run([sys.executable, "-c", _KILLED, *arguments], cwd=ROOT, check=False)
        assert ended.returncode == -signal.SIGKILL
    assert before.rescale(new)

    (tmp_path / "elsewhere").mkdir()
    with WorkerProcess(new, tmp_path / "elsewhere", bootstrap) as stranger:
        asyncio.run(until(lambda: stranger.ended is not None, "a worker without stores stops"))
        assert "goes on with that of 2 partitions" in stranger.says
    with WorkerProcess(new, tmp_path, bootstrap) as worker:
        asyncio.run(send(bootstrap, new, late, end=False, replayed=False))
        asyncio.run(send(bootstrap, new, {topic: [] for topic in EVENTS}, end=True))
        asyncio.run(until(lambda: at_one_time(bootstrap, new, END_OF_TIME_MS - 10**6), "the end of time"))
        assert worker.stop() == 0, worker.says
    expected = join(events, old, 0)
    assert Workers(bootstrap, new, tmp_path).tokens() == {u: tokens for u, tokens in expected.tokens.items() if tokens}
    found = [example for each in (old, new) for example in examples_in(bootstrap, each)]
    assert targets(found) == targets(expected.examples)


def messages_in(bootstrap: str, settings: StreamSettings) -> list[list[Example | Heartbeat]]:
    logs = asyncio.run(read(bootstrap, settings.topic_prefix + "examples", settings.partitions))
    return [[decode(record.value) for record in log] for log in logs]


def examples_in(bootstrap: str, settings: StreamSettings) -> list[Example]:
    return [each for log in messages_in(bootstrap, settings) for each in log if isinstance(each, Example)]


async def at_one_time(bootstrap: str, settings: StreamSettings, least_ms: int) -> bool:
    """Return whether the last heartbeats of all partitions say one time, and at least this one."""
    logs = await asyncio.to_thread(messages_in, bootstrap, settings)
    beats = {max((each.watermark_ms for each in log if isinstance(each, Heartbeat)), default=-1) for log in logs}
    return len(beats) == 1 and min(beats) >= least_ms
