import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from threading import Thread

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewTopic

from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.storage.checkpoint import read_newest
from model.storage.snapshot import list_snapshots, load_snapshot
from model.trainer.kafka import run_trainer
from model.trainer.monitor import Monitor
from model.trainer.run import Training
from stream.errors import BrokerError
from stream.example import DEFAULT_BOUNDS
from stream.kafka.connection import Kafka
from stream.kafka.groups import other_member
from tests.factories import START_MS, Record, make_examples, make_items
from tests.kafka import KafkaForTests
from tests.kafka_logs import delete_before, fill, make_topics, read, until, with_admin
from tests.raw_records import batch, produce, record

ROOT = Path(__file__).parents[3]
MODEL = ModelSettings(dim=16, layers=1, heads=2, max_len=64, rank_actions=("click", "like"))
TRAIN = TrainSettings(batch_examples=8, negatives=16, window_targets=50, checkpoint_s=0.1, snapshot_s=1e9)
EXAMPLES = make_examples(seed=5, users=9, items=30, count=240, partitions=2)
ITEMS = make_items([(START_MS, "item 3", {"title": "Three"}), (START_MS + 3_600_000, "item 2", None)], partitions=2)
_CODE = """
import sys
from pathlib import Path
from model.config import ModelSettings, TrainSettings
from model.trainer.kafka import run_trainer
from stream.example import DEFAULT_BOUNDS
from stream.kafka.connection import Kafka
train, model, data_dir, bootstrap, prefix = sys.argv[1:]
train, model = TrainSettings.model_validate_json(train), ModelSettings.model_validate_json(model)
more = {"topic_prefix": prefix, "partitions": 2, "until_end": False, "live": False}
more["bounds"] = DEFAULT_BOUNDS
run_trainer(train, model, Path(data_dir), Kafka(bootstrap), **more)
"""


class TrainerProcess:
    """A trainer in another process; killed at the end of its with block."""

    def __init__(self, kafka: KafkaForTests, prefix: str, folder: Path) -> None:
        settings = [TRAIN.model_dump_json(), MODEL.model_dump_json()]
        more = [str(folder), kafka.bootstrap, prefix]
        self.process = subprocess.Popen([sys.executable, "-c", _CODE, *settings, *more], cwd=ROOT)

    def __enter__(self) -> "TrainerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


async def write(kafka: KafkaForTests, name: str, logs: Sequence[Sequence[Record]]) -> None:
    """Write records to a topic, partition by partition."""
    for p, log in enumerate(logs):
        for headers, records in groupby(log, key=lambda record: record.headers):
            await fill(kafka.bootstrap, name, [(p, r.key, r.value, r.timestamp) for r in records], headers=headers)


def direct(folder: Path, items: list[list[Record]]) -> dict[str, str]:
    """Train on the same records in this process, without Kafka."""
    training = Training(folder, TRAIN, MODEL, partitions=2, items_partitions=len(items), now=lambda: 0.0)
    for topic, logs in (("examples", EXAMPLES), ("items", items)):
        for partition, log in enumerate(logs):
            training.inbox.offer(topic, partition, log)  # type: ignore[arg-type]
    while training.step():
        pass
    assert training.ended
    digests = training.digests
    training.close()
    return digests


def digests_in(folder: Path) -> dict[str, str]:
    """Return the digests that the last snapshot of a run names."""
    newest = list_snapshots(folder / "snapshots" / TRAIN.name)[-1]
    return load_snapshot(folder / "snapshots" / TRAIN.name / newest.id).manifest.digests


def test_kafka_and_one_process_end_with_the_same_model(kafka: KafkaForTests, topic_prefix: str, tmp_path: Path) -> None:
    """The same examples and catalogue give the same digests by either way; --until-end exits with 0 at the end."""
    asyncio.run(make_topics(kafka.bootstrap, [f"{topic_prefix}examples", f"{topic_prefix}items"]))
    asyncio.run(write(kafka, f"{topic_prefix}examples", EXAMPLES))
    asyncio.run(write(kafka, f"{topic_prefix}items", ITEMS))
    run_trainer(
        *(TRAIN, MODEL, tmp_path / "kafka", Kafka(kafka.bootstrap)),
        **{"topic_prefix": topic_prefix, "partitions": 2, "bounds": DEFAULT_BOUNDS, "until_end": True, "live": True},
    )
    assert digests_in(tmp_path / "kafka") == direct(tmp_path / "direct", ITEMS)


def test_what_waits_for_a_step_is_in_the_lag(
    kafka: KafkaForTests, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a first step compiles, what is read meanwhile is in no report, and is as little learned as the rest."""
    name, lags, step = f"{topic_prefix}examples", list[int | None](), Training.step
    asyncio.run(make_topics(kafka.bootstrap, [name]))
    asyncio.run(write(kafka, name, [log[:100] for log in EXAMPLES]))
    count, more = sum(len(log[:100]) for log in EXAMPLES), EXAMPLES[0][100:109]

    def seen(lag: int) -> bool:
        deadline_s = time.monotonic() + 30
        while lag not in lags[-1:] and time.monotonic() < deadline_s:
            time.sleep(0.1)
        return lag in lags[-1:]

    def slow(training: Training) -> bool:
        monkeypatch.setattr(Training, "step", step)
        begun = seen(count)
        asyncio.run(fill(kafka.bootstrap, name, [(0, r.key, r.value, r.timestamp) for r in more]))
        raise ModelError(f"seen: {begun}, {seen(count + len(more))}")

    monkeypatch.setattr(Training, "step", slow)
    monkeypatch.setattr(Monitor, "show", lambda self, report, lag=None: lags.append(lag))
    with pytest.raises(ModelError, match="seen: True, True"):
        run_trainer(
            *(TRAIN, MODEL, tmp_path, Kafka(kafka.bootstrap)),
            **{"topic_prefix": topic_prefix, "partitions": 2, "bounds": DEFAULT_BOUNDS, "until_end": True},
            live=False,
        )


def test_records_that_no_client_can_read_are_passed_over(
    kafka: KafkaForTests, topic_prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Headers whose name is not UTF-8, in both topics, change neither the model nor the trainer's way; they count."""
    asyncio.run(make_topics(kafka.bootstrap, [f"{topic_prefix}examples", f"{topic_prefix}items"]))
    for topic, logs in (("examples", EXAMPLES), ("items", ITEMS)):
        odd = record(b"item 3", b'{"item_id": "item 3", "title": "Odd"}', [(b"\xff", b"x")])
        assert produce(kafka.bootstrap, topic_prefix + topic, 0, batch(odd, 1)) == 0
        asyncio.run(write(kafka, topic_prefix + topic, logs))
    run_trainer(
        *(TRAIN, MODEL, tmp_path / "kafka", Kafka(kafka.bootstrap)),
        **{"topic_prefix": topic_prefix, "partitions": 2, "bounds": DEFAULT_BOUNDS, "until_end": True, "live": False},
    )
    assert digests_in(tmp_path / "kafka") == direct(tmp_path / "direct", ITEMS)
    assert f"is not UTF-8: b'\\xff'. Offset 0 of {topic_prefix}items, partition 0, is passed over." in caplog.text
    assert caplog.text.count("passed over") == 2


def test_killed_stopped_and_resumed_it_ends_with_the_same_model(
    kafka: KafkaForTests, topic_prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """kill -9, then SIGTERM, then a run to the end: the bits of a run that nothing disturbed."""
    name, middle = f"{topic_prefix}examples", len(EXAMPLES[0]) // 2
    checkpoints = tmp_path / "train" / TRAIN.name

    def newest() -> str:
        return max((path.name for path in checkpoints.glob("cut-*")), default="")

    async def killed() -> None:
        await make_topics(kafka.bootstrap, [name])
        await write(kafka, name, [log[:middle] for log in EXAMPLES])
        with TrainerProcess(kafka, topic_prefix, tmp_path) as trainer:
            await until(lambda: newest() != "", "a checkpoint", 120)
            trainer.process.kill()
        await write(kafka, name, [log[middle:-1] for log in EXAMPLES])

    async def stopped(before: str) -> None:
        await until(lambda: newest() > before, "another checkpoint", 120)
        os.kill(os.getpid(), signal.SIGTERM)  # the trainer's handler is in place while it writes checkpoints

    asyncio.run(killed())
    caplog.set_level("INFO", "hstu")
    stopping = Thread(target=asyncio.run, args=(stopped(newest()),))
    stopping.start()
    start(kafka.bootstrap, topic_prefix, tmp_path)
    stopping.join()
    assert "goes on from step" in caplog.text
    asyncio.run(write(kafka, name, [log[-1:] for log in EXAMPLES]))
    start(kafka.bootstrap, topic_prefix, tmp_path, until_end=True)
    assert digests_in(tmp_path) == direct(tmp_path / "direct", [])


def test_only_one_process_trains_under_a_name(kafka: KafkaForTests, topic_prefix: str, tmp_path: Path) -> None:
    """The second is refused in a sentence; the first is not disturbed."""
    asyncio.run(make_topics(kafka.bootstrap, [f"{topic_prefix}examples"]))
    held = Training(tmp_path, TRAIN, MODEL, partitions=2, items_partitions=0, now=lambda: 0.0)
    with pytest.raises(ModelError, match="Another process trains as silu"):
        start(kafka.bootstrap, topic_prefix, tmp_path)
    held.close()


def test_only_one_data_directory_trains_under_a_name(
    kafka: KafkaForTests, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another member is in its group a trainer is refused in a sentence; itself of before it is not."""
    monkeypatch.setattr("model.trainer.kafka.SESSION_S", 0.5)
    name, group = f"{topic_prefix}examples", f"{topic_prefix}hstu-train-{TRAIN.name}"

    async def run() -> None:
        await make_topics(kafka.bootstrap, [name])
        other = AIOKafkaConsumer(name, bootstrap_servers=kafka.bootstrap, group_id=group, group_instance_id="elsewhere")
        await other.start()
        try:
            with pytest.raises(ModelError, match=r"trains as silu from another data directory, on 127\.0\.0"):
                await asyncio.to_thread(start, kafka.bootstrap, topic_prefix, tmp_path)
            assert await asyncio.to_thread(other_member, Kafka(kafka.bootstrap), group, "elsewhere", 0) == ""
        finally:
            await other.stop()

    asyncio.run(run())


def test_what_is_missing_is_a_sentence(kafka: KafkaForTests, topic_prefix: str, tmp_path: Path) -> None:
    """No topic, or other partitions: the sentence says which setting or verb to change."""
    with pytest.raises(ModelError, match=r"has 0 partitions, .* says 2; run hstu topics create"):
        start(kafka.bootstrap, topic_prefix, tmp_path)


def learn_and_stop(kafka: KafkaForTests, prefix: str, folder: Path) -> None:
    """Train until there is a checkpoint, and stop, as by SIGTERM."""

    async def stopped() -> None:
        await until(lambda: any((folder / "train" / TRAIN.name).glob("cut-*")), "a checkpoint", 120)
        os.kill(os.getpid(), signal.SIGTERM)  # the trainer's handler is in place while it writes checkpoints

    stopping = Thread(target=asyncio.run, args=(stopped(),))
    stopping.start()
    start(kafka.bootstrap, prefix, folder)
    stopping.join()


@pytest.mark.parametrize("made_again", [False, True], ids=["retention", "made again"])
def test_examples_that_are_gone_name_the_trainers_own_way_on(
    kafka: KafkaForTests, topic_prefix: str, tmp_path: Path, made_again: bool
) -> None:
    """By retention, or with their topic; no word of a worker's data directory, since its stores are well."""
    name, middle = f"{topic_prefix}examples", len(EXAMPLES[0]) // 2
    asyncio.run(make_topics(kafka.bootstrap, [name]))
    asyncio.run(write(kafka, name, [log[:middle] for log in EXAMPLES]))
    learn_and_stop(kafka, topic_prefix, tmp_path)

    async def lose() -> None:
        if made_again:
            await with_admin(kafka.bootstrap, lambda admin: admin.delete_topics([name]))
            await make_topics(kafka.bootstrap, [name])
        else:
            await write(kafka, name, [log[middle:] for log in EXAMPLES])
            for partition, log in enumerate(EXAMPLES):
                await delete_before(kafka.bootstrap, name, partition, len(log))

    asyncio.run(lose())
    with pytest.raises(BrokerError, match=r"(ends|begins) at offset .*read it up to") as refusal:
        start(kafka.bootstrap, topic_prefix, tmp_path)
    assert f"go on with what was learned by hstu train --name silu-2 --weights-from {TRAIN.name}," in str(refusal.value)
    assert "new data directory" not in str(refusal.value)


def test_items_made_again_are_not_read_on_from_the_middle(
    kafka: KafkaForTests, topic_prefix: str, tmp_path: Path
) -> None:
    """A topic of as many records and more is refused at the first one that comes once more; nothing of it is taken."""
    examples, items, middle = f"{topic_prefix}examples", f"{topic_prefix}items", len(EXAMPLES[0]) // 2
    asyncio.run(make_topics(kafka.bootstrap, [examples, items]))
    asyncio.run(write(kafka, examples, [log[:middle] for log in EXAMPLES]))
    asyncio.run(write(kafka, items, ITEMS))
    learn_and_stop(kafka, topic_prefix, tmp_path)

    async def make_again() -> None:
        await with_admin(kafka.bootstrap, lambda admin: admin.delete_topics([items]))
        await make_topics(kafka.bootstrap, [items])
        others = [(START_MS + n, f"other {n}", {"title": "Other"}) for n in range(40)]
        await write(kafka, items, make_items([*others], partitions=2))

    asyncio.run(make_again())
    with pytest.raises(ModelError, match=rf"of {items}, partition \d, holds another record .* --weights-from silu,"):
        start(kafka.bootstrap, topic_prefix, tmp_path)
    checkpoint, _ = read_newest(tmp_path / "train" / TRAIN.name)
    assert checkpoint is not None
    marks = checkpoint.facts["marks"]["items"]
    assert [mark["offset"] <= len(log) for mark, log in zip(marks, ITEMS, strict=True)] == [True, True]


@pytest.mark.slow
def test_a_record_of_items_that_was_compacted_away_stops_nobody(
    kafka: KafkaForTests, topic_prefix: str, tmp_path: Path
) -> None:
    """Workers write heartbeats, and compaction keeps the last one: the one that was read last is gone."""
    examples, items, middle = f"{topic_prefix}examples", f"{topic_prefix}items", len(EXAMPLES[0]) // 2
    policy = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001"}
    logs = make_items([(START_MS - n, f"item {n}", {"title": "T"}) for n in range(9)], partitions=2)

    async def gone() -> bool:
        await write(kafka, items, [log[-1:] for log in logs])  # a segment ends when a record comes
        found = await read(kafka.bootstrap, items)
        return not any(log[-1].offset in [r.offset for r in found[p]] for p, log in enumerate(logs))

    asyncio.run(make_topics(kafka.bootstrap, [examples]))
    asyncio.run(with_admin(kafka.bootstrap, lambda admin: admin.create_topics([NewTopic(items, 2, 1, None, policy)])))
    asyncio.run(write(kafka, examples, [log[:middle] for log in EXAMPLES]))
    asyncio.run(write(kafka, items, logs))
    learn_and_stop(kafka, topic_prefix, tmp_path)
    checkpoint, _ = read_newest(tmp_path / "train" / TRAIN.name)
    assert checkpoint is not None
    assert [mark["last"][0] for mark in checkpoint.facts["marks"]["items"]] == [log[-1].offset for log in logs]
    asyncio.run(until(gone, "compaction", 120))
    asyncio.run(write(kafka, examples, [log[middle:] for log in EXAMPLES]))
    start(kafka.bootstrap, topic_prefix, tmp_path, until_end=True)
    assert digests_in(tmp_path) == direct(tmp_path / "direct", logs)


def start(bootstrap: str, prefix: str, folder: Path, train: TrainSettings = TRAIN, *, until_end: bool = False) -> None:
    """Run a trainer in this process."""
    more = {"topic_prefix": prefix, "partitions": 2, "bounds": DEFAULT_BOUNDS, "until_end": until_end, "live": False}
    run_trainer(train, MODEL, folder, Kafka(bootstrap), **more)
